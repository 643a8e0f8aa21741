"""Evaluation protocols: what is done with a method's heatmaps to get a number or a curve per input.

`removal` and `shuffling` change the ranked pixels and ask the model again; `regions` replaces squares one after another
and asks after each; `distance` looks at the ranking alone.
"""

from typing import Any

from rapbench.core.errors import RapbenchError
from rapbench.registry import Registry


def _facts(name: str, made: object, stated: dict[str, Any]) -> None:
    from rapbench.protocols.base.protocol import check_protocol  # with it comes torch

    if stated:
        raise RapbenchError(f"protocol {name!r}: {min(stated)}= is stated in the class, not when it is registered")
    check_protocol(name, made)


protocols: Registry[None] = Registry("protocol", "rapbench.protocols", _facts)
