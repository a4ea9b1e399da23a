"""Which tokens of a completion its advantage goes to: DEER's token-weighted policy optimisation (DiTPO).

Its authors give no formulas; what is meant by each kind of weight here is ours and stands in docs/deer.md.
"""

from radiograd.weighting.completion import Completion, Weighted

__all__ = ["Completion", "Weighted"]
