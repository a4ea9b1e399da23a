"""Name -> metric. One line each; resolved only when asked for."""

RULES = {
    "rouge1": "radiograd.metrics.rouge:Rouge1",
    "rouge2": "radiograd.metrics.rouge:Rouge2",
    "rougeL": "radiograd.metrics.rouge:RougeL",
    "bleu1": "radiograd.metrics.bleu:Bleu1",
    "bleu2": "radiograd.metrics.bleu:Bleu2",
    "bleu3": "radiograd.metrics.bleu:Bleu3",
    "bleu4": "radiograd.metrics.bleu:Bleu4",
    "meteor": "radiograd.metrics.meteor:Meteor",
    "cider": "radiograd.metrics.cider:Cider",
    "tfidf_overlap": "radiograd.metrics.tfidf_overlap:TfidfOverlap",
    "length_ratio": "radiograd.metrics.length_ratio:LengthRatio",
    "label_f1_14": "radiograd.metrics.label_f1:label_f1_14",
    "label_f1_14_macro": "radiograd.metrics.label_f1:label_f1_14_macro",
    "label_f1_14_example": "radiograd.metrics.label_f1:label_f1_14_example",
    "label_f1_14_uncertain_absent": "radiograd.metrics.label_f1:label_f1_14_uncertain_absent",
    "label_f1_14_macro_uncertain_absent": "radiograd.metrics.label_f1:label_f1_14_macro_uncertain_absent",
    "label_f1_14_example_uncertain_absent": "radiograd.metrics.label_f1:label_f1_14_example_uncertain_absent",
    "label_f1_5": "radiograd.metrics.label_f1:label_f1_5",
    "label_f1_5_macro": "radiograd.metrics.label_f1:label_f1_5_macro",
    "label_f1_5_example": "radiograd.metrics.label_f1:label_f1_5_example",
    "label_f1_5_uncertain_absent": "radiograd.metrics.label_f1:label_f1_5_uncertain_absent",
    "label_f1_5_macro_uncertain_absent": "radiograd.metrics.label_f1:label_f1_5_macro_uncertain_absent",
    "label_f1_5_example_uncertain_absent": "radiograd.metrics.label_f1:label_f1_5_example_uncertain_absent",
    "factgraph_simple": "radiograd.metrics.factgraph:Simple",
    "factgraph_partial": "radiograd.metrics.factgraph:Partial",
    "factgraph_complete": "radiograd.metrics.factgraph:Complete",
    "fidelity": "radiograd.metrics.fidelity:Fidelity",
    "consistency": "radiograd.metrics.consistency:Consistency",
    "keywords": "radiograd.metrics.statements:Keywords",
    "statements": "radiograd.metrics.statements:Statements",
    "laterality": "radiograd.metrics.statements:Laterality",
    "severity": "radiograd.metrics.statements:Severity",
    "negation": "radiograd.metrics.statements:Negation",
    "report_format": "radiograd.metrics.report_format:ReportFormat",
    "hallucinated_prior": "radiograd.metrics.statements:HallucinatedPrior",
}
"""Computed by rules and counting alone: no weights, no other program."""

MODELS = {
    "bertscore": "radiograd.metrics.bertscore:BertScore",
    "embedscore": "radiograd.metrics.sembscore:EmbedScore",
    "chexbert_f1_14": "radiograd.metrics.tools:chexbert_f1_14",
    "chexbert_f1_5": "radiograd.metrics.tools:chexbert_f1_5",
    "sembscore": "radiograd.metrics.tools:sembscore",
    "radgraph_simple": "radiograd.metrics.tools:radgraph_simple",
    "radgraph_partial": "radiograd.metrics.tools:radgraph_partial",
    "radgraph_complete": "radiograd.metrics.tools:radgraph_complete",
    "radcliq_v0": "radiograd.metrics.tools:radcliq_v0",
    "radcliq_v1": "radiograd.metrics.tools:radcliq_v1",
    "green": "radiograd.metrics.tools:green",
    "ratescore": "radiograd.metrics.tools:ratescore",
}
"""Need weights or a program of their own; each says which when it is missing."""

METRICS = {**RULES, **MODELS}
