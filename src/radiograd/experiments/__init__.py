"""Several runs that answer one question, and the table of them. Files of this folder are experiments by name."""
