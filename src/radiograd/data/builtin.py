"""Name -> reader. One line each; resolved only when asked for."""

READERS = {
    "openi": "radiograd.data.openi:read",
    "csv": "radiograd.data.table:read_csv",
    "jsonl": "radiograd.data.table:read_jsonl",
    "parquet": "radiograd.data.table:read_parquet",
}
