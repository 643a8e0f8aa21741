"""Results: one number per input, method, protocol, variant, step and metric, with what it means and what made it."""
