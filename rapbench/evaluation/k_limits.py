"""K lists against the size of the images: more pixels than there are cannot be perturbed."""

import math
from collections.abc import Sequence
from dataclasses import replace

from rapbench.core.errors import RapbenchError
from rapbench.evaluation.choice import Choice
from rapbench.evaluation.input_shape import pixels_said

Ks = dict[str, list[int | str]]


def ks_of(protocol: Choice) -> Ks:
    """Return a protocol's K lists, by sign; {} for one that has none."""
    return {sign: list(ks) for sign, ks in (protocol.set_to("k") if "k" in protocol.entry.options else {}).items()}


def within(protocols: Sequence[Choice], space: Sequence[int]) -> list[Choice]:
    """Return the protocols with K lists that fit inputs of a spatial shape.

    Of a default list the K beyond all pixels are dropped. Raises RapbenchError where a user's own list has one. A K
    beyond the pixels of one sign stays: a map that has fewer gives all it has, as in the paper.
    """
    found = []
    for protocol in protocols:
        asked = ks_of(protocol)
        fitting = {sign: _fitting(protocol, sign, ks, space) for sign, ks in asked.items()}
        changed = fitting != asked
        found.append(replace(protocol, options=protocol.options | {"k": fitting}) if changed else protocol)
    return found


def _fitting(protocol: Choice, sign: str, ks: list[int | str], space: Sequence[int]) -> list[int | str]:
    beyond = [k for k in ks if isinstance(k, int) and k > math.prod(space)]
    fitting = [k for k in ks if k not in beyond]
    if beyond and (not fitting or ks != list(protocol.entry.options["k"].get(sign, ()))):
        raise RapbenchError(
            f"protocol {protocol.label!r}: k.{sign} has {beyond[0]}, but an image has {pixels_said(space)}; "
            "take fewer, or all"
        )
    return fitting
