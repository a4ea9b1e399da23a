"""What rows and metrics are called on the page, and how its numbers and times are written."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from radiograd.metrics.of_section import SECTIONS
from radiograd.tables import hundredfold, p_value
from radiograd.types import REPORT

ROW_LABELS = {
    "sft": "SFT",
    "aligned": "Aligned",
    "constant": "Constant sentence",
    "retrieval": "Retrieval",
    "other_patient": "Another patient",
    "copy_findings": "Copied findings",
}
ROW_PHRASES = {
    "constant": "the constant sentence",
    "retrieval": "retrieval",
    "other_patient": "another patient's text",
    "copy_findings": "the copied findings",
    "sft": "the SFT model",
    "aligned": "the aligned model",
}
_LABELS = {
    "reward": "Reward",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "bleu1": "BLEU-1",
    "bleu2": "BLEU-2",
    "bleu3": "BLEU-3",
    "bleu4": "BLEU-4",
    "meteor": "METEOR",
    "cider": "CIDEr-D",
    "bertscore": "BERTScore",
    "length_ratio": "Length ratio",
    "fidelity": "Fidelity",
    "consistency": "Consistency",
    "statements": "Statements",
    "keywords": "Key words",
    "laterality": "Sides",
    "severity": "Severities",
    "negation": "Denials",
    "hallucinated_prior": "Invented priors",
    "report_format": "Format kept",
    "factgraph_simple": "Facts, simple",
    "factgraph_partial": "Facts, partial",
    "factgraph_complete": "Facts, complete",
    "radgraph_simple": "RadGraph, simple",
    "radgraph_partial": "RadGraph, partial",
    "radgraph_complete": "RadGraph, complete",
    "radcliq_v0": "RadCliQ-v0",
    "radcliq_v1": "RadCliQ-v1",
    "sembscore": "SembScore",
    "embedscore": "EmbedScore",
    "tfidf_overlap": "TF-IDF overlap",
    "green": "GREEN",
    "ratescore": "RaTEScore",
    **{
        f"{prefix}_{size}{average}{policy}": f"{label}-{size}{average_label}{policy_label}"
        for prefix, label in (("label_f1", "Label F1"), ("chexbert_f1", "CheXbert F1"))
        for size in (14, 5)
        for average, average_label in (("", ""), ("_macro", " macro"), ("_example", " by report"))
        for policy, policy_label in (("", ""), ("_uncertain_absent", ", uncertain absent"))
    },
}
_TERM_LABELS = {
    "uncertainty": "Uncertainty of the completions",
    "f1_mean": "Diagnostic F1 of the completions",
    "f1_std": "Standard deviation of that F1",
    "syntax": "Syntax",
    "domain": "Domain facts",
    "consistent": "Consistency",
    "impression_f1": "Impression labels",
    "impression_f1_all": "Impression labels, all 14",
    "chance": "Chance (control)",
}
METRIC_LABELS = {
    **_LABELS,
    **_TERM_LABELS,
    **{f"{name}/{metric}": f"{name.capitalize()}: {label}" for name in SECTIONS for metric, label in _LABELS.items()},
}
"""A metric that is not named here goes by its own name."""
GROUPS = {"clinical": "Clinical content", "wording": "Wording", "other": "Other metrics"}
_CLINICAL_KINDS = ("label_f1", "chexbert_f1", "factgraph", "radgraph", "radcliq")
_CLINICAL = {
    "consistency",
    "fidelity",
    "statements",
    "keywords",
    "laterality",
    "severity",
    "negation",
    "hallucinated_prior",
    "sembscore",
    "green",
    "ratescore",
    "domain",
    "consistent",
    "impression_f1",
    "impression_f1_all",
}
_WORDING_KINDS = ("rouge", "bleu")
_WORDING = {"meteor", "cider", "bertscore", "embedscore", "tfidf_overlap", "length_ratio", "report_format", "syntax"}
SHARES = {"share", "frac"}


def row_notes(section: str) -> dict[str, str]:
    """What the rows are; ``section``: what they write, impression or report."""
    shown = "indication and comparison" if section == REPORT else "findings"
    return {
        "sft": f"Fine-tuned on the radiologists' {section}s.",
        "aligned": "The SFT model after alignment.",
        "constant": f"The commonest {section} of the whole train split, for every study.",
        "retrieval": f"The {section} of the study with the nearest {shown} in the whole train split.",
        "other_patient": f"The {section} of some other study.",
        "copy_findings": "The findings, repeated as the impression.",
    }


def listed(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``. IndexError for no words."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def metric_group(metric: str) -> str:
    """clinical (what is said), wording (how), or other for a metric that is not built in; a key of GROUPS."""
    metric = metric.rpartition("/")[2]
    if metric in _CLINICAL or metric.startswith(_CLINICAL_KINDS):
        return "clinical"
    return "wording" if metric in _WORDING or metric.startswith(_WORDING_KINDS) else "other"


def is_share(key: str) -> bool:
    """Whether a key names a fraction of 1, by its words: normal_share_used, distinct_frac."""
    return not SHARES.isdisjoint(key.split("_"))


def is_number(value: object) -> bool:
    """Whether a value from a file is an int or a float; true and false are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def duration(seconds: float) -> str:
    """Seconds as people say them: 8.3 s, 5 min 02 s, 1 h 07 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def moment(text: str | None) -> str:
    """An ISO time as people write it, to the minute: 2026-01-05 09:30 UTC; a dash for none."""
    if text is None:
        return "–"
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def hundredths(value: float) -> str:
    """A value in [0, 1] as x 100 with one decimal and a true minus sign; never −0.0."""
    return hundredfold(value).replace("-", "−")


def signed(value: float | None) -> str:
    """A difference of values in [0, 1], x 100, with its sign; 0.0 has none."""
    return hundredfold(value, sign=True).replace("-", "−")


def interval(low: float | None, high: float | None) -> str:
    """``[low, high]`` x 100."""
    return "[–]" if low is None or high is None else f"[{hundredths(low)}, {hundredths(high)}]"


def p_text(p: float | None) -> str:
    """``p = 0.032``, ``p < 0.001``, or nothing when there is none."""
    if p is None:
        return ""
    text = p_value(p)
    return f"p < {text[1:]}" if text.startswith("<") else f"p = {text}"
