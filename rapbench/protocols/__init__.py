"""Evaluation protocols: what is done with a ranking of pixels.

A perturbation changes the ranked pixels and asks the model again; a measure looks at the ranking alone. `regions` ranks
squares of pixels instead, replaces one after another and asks after each.
"""

from rapbench.registry import Registry

protocols = Registry("protocol", "rapbench.protocols")
