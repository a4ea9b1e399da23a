"""Policy-optimisation maths: pure functions on tensors, no model, no config, no logging."""
