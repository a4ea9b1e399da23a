"""Name -> metric. One line each; resolved only when asked for."""

METRICS = {
    "rouge1": "radiograd.metrics.rouge:Rouge1",
    "rouge2": "radiograd.metrics.rouge:Rouge2",
    "rougeL": "radiograd.metrics.rouge:RougeL",
    "bleu1": "radiograd.metrics.bleu:Bleu1",
    "bleu2": "radiograd.metrics.bleu:Bleu2",
    "bleu3": "radiograd.metrics.bleu:Bleu3",
    "bleu4": "radiograd.metrics.bleu:Bleu4",
    "length_ratio": "radiograd.metrics.length_ratio:LengthRatio",
}
