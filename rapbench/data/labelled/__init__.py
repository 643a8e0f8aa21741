"""Data sets: labelled inputs in a fixed order."""
