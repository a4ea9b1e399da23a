"""Training: the only place where TRL is touched."""
