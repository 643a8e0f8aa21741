"""Weights: where files come from, how each format is read, and whether it fits a network."""
