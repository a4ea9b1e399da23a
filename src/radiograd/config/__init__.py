"""Every knob, its default and its meaning. Strict and frozen: an unknown key is an error with a suggestion.

Order of precedence: defaults here < the YAML file < ``dotted.key=value`` on the command line. Nothing here imports
torch; names (readers, metrics, reward terms) are resolved by :mod:`radiograd.stages` before a model loads.
"""

from __future__ import annotations

from radiograd.config.alignment import (
    ALIGNMENTS,
    REWARD_PRESETS,
    AlignConfig,
    DPOConfig,
    GRPOConfig,
    GuardConfig,
    ImportConfig,
    MoreSFTConfig,
    NoAlignConfig,
    SamplerConfig,
    ScheduleConfig,
    TokenWeightConfig,
)
from radiograd.config.data import (
    DataConfig,
    LimitConfig,
    SitesConfig,
    SourceConfig,
    SplitConfig,
)
from radiograd.config.loading import (
    SHIPPED_CONFIGS,
    apply_override,
    difference,
    digest,
    keys_of,
    load_config,
    parse_config,
    read_values,
    shipped,
)
from radiograd.config.model import (
    FineTuning,
    LoraConfig,
    ModelConfig,
    SFTConfig,
)
from radiograd.config.run import (
    JUDGES_OF_IMPRESSIONS,
    TASK_DEFAULTS,
    EvaluateConfig,
    GenerateConfig,
    RunConfig,
)
from radiograd.config.section import (
    Fraction,
    Positive,
    Section,
)
from radiograd.config.selection import (
    SELECTIONS,
    AllConfig,
    CriticalityConfig,
    DiverseConfig,
    HardestConfig,
    RandomConfig,
    RewardStdConfig,
    SampledConfig,
    SelectConfig,
)

__all__ = [
    "ALIGNMENTS",
    "JUDGES_OF_IMPRESSIONS",
    "REWARD_PRESETS",
    "SELECTIONS",
    "SHIPPED_CONFIGS",
    "TASK_DEFAULTS",
    "AlignConfig",
    "AllConfig",
    "CriticalityConfig",
    "DPOConfig",
    "DataConfig",
    "DiverseConfig",
    "EvaluateConfig",
    "FineTuning",
    "Fraction",
    "GRPOConfig",
    "GenerateConfig",
    "GuardConfig",
    "HardestConfig",
    "ImportConfig",
    "LimitConfig",
    "LoraConfig",
    "ModelConfig",
    "MoreSFTConfig",
    "NoAlignConfig",
    "Positive",
    "RandomConfig",
    "RewardStdConfig",
    "RunConfig",
    "SFTConfig",
    "SampledConfig",
    "SamplerConfig",
    "ScheduleConfig",
    "Section",
    "SelectConfig",
    "SitesConfig",
    "SourceConfig",
    "SplitConfig",
    "TokenWeightConfig",
    "apply_override",
    "difference",
    "digest",
    "keys_of",
    "load_config",
    "parse_config",
    "read_values",
    "shipped",
]
