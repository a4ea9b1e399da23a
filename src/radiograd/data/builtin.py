"""Name -> reader. One line each; resolved only when asked for."""

READERS = {
    "openi": "radiograd.data.openi:read",
    "r2gen": "radiograd.data.r2gen:read",
    "mimic-cxr": "radiograd.data.mimic:read",
    "chexpert-plus": "radiograd.data.chexpert_plus:read",
    "rexgradient": "radiograd.data.rexgradient:read",
    "padchest": "radiograd.data.padchest:read",
    "csv": "radiograd.data.table:read_csv",
    "jsonl": "radiograd.data.table:read_jsonl",
    "parquet": "radiograd.data.table:read_parquet",
}
TABLES = ("csv", "jsonl", "parquet")
"""Readers whose columns are the user's own."""
ANY_ENDING = ("openi", "r2gen", "mimic-cxr", "chexpert-plus")
"""Their films are handed out as PNG, JPEG and DICOM, under one name in their tables."""
