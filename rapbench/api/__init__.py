"""The package from Python: `evaluate`, and the results that it returns."""
