"""Patterns: for each unit of a network the direction of its input that carries its signal, learned from images.

Equations (4) and (8) of [kindermans2017patternnet], version 2. From the console: `rapbench patterns`. From Python::

    from rapbench.patterns import estimate, save

    save(estimate(model, batches), model)  # batches: (N, C, ...) tensors, preprocessed; saved where the methods look
    R = rapbench.attribute(model, x, targets, method="pattern_attribution")
"""

from rapbench.patterns.estimator import estimate
from rapbench.patterns.file import save

__all__ = ["estimate", "save"]
