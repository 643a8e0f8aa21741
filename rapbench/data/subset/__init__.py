"""The subset that a run evaluates: chosen, written down, loaded."""
