"""Labelled images: where they are, how they are decoded, and the subset that a run uses."""

from rapbench.registry import Registry

datasets = Registry("data set", "rapbench.data")
