"""Which tokens of a completion its advantage goes to: DEER's token-weighted policy optimisation (DiTPO).

Its authors give no formulas; what is meant by each kind of weight here is ours and stands in docs/deer.md.
"""

from radiograd.weighting.agreement import agreement
from radiograd.weighting.completion import Completion, Weighted
from radiograd.weighting.offsets import completion_of, completions_of
from radiograd.weighting.weigher import TokenWeigher, load_classifier

__all__ = ["Completion", "TokenWeigher", "Weighted", "agreement", "completion_of", "completions_of", "load_classifier"]
