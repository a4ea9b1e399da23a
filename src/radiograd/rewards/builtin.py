"""Name -> reward term that is no metric. One line each; resolved only when asked for. Every metric is a term too."""

TERMS = {
    "syntax": "radiograd.rewards.terms:Syntax",
    "domain": "radiograd.rewards.terms:Domain",
    "consistent": "radiograd.rewards.terms:Consistent",
    "impression_f1": "radiograd.rewards.terms:ImpressionF1",
    "impression_f1_all": "radiograd.rewards.terms:ImpressionF1All",
    "diagnostic_f1": "radiograd.rewards.terms:DiagnosticF1",
    "chance": "radiograd.rewards.terms:Chance",
}
