"""Evaluation protocols: what is done with a method's heatmaps to get a number or a curve per input.

`removal` and `shuffling` change the ranked pixels and ask the model again; `regions` replaces squares one after another
and asks after each; `distance` looks at the ranking alone.
"""

from rapbench.registry import Registry


def _check(name: str, made: object) -> None:
    from rapbench.protocols.protocol import check_protocol  # with it comes torch

    check_protocol(name, made)


protocols = Registry("protocol", "rapbench.protocols", _check)
