"""Scripts that print tables: ``akessfa`` (ablations), ``speed`` (ratios to the machine's matmul rate), ``demo``."""
