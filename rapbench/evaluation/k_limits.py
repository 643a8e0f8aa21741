"""K lists against the size of the images: more pixels than there are cannot be perturbed."""

import math
from collections.abc import Sequence
from dataclasses import replace

from rapbench.core.errors import RapbenchError
from rapbench.evaluation.choice import Choice
from rapbench.evaluation.input_shape import pixels_said
from rapbench.protocols.base.ks import is_share, number_of

Ks = dict[str, list[int | str]]


def ks_of(protocol: Choice) -> Ks:
    """Return a protocol's K lists, by sign; {} for one that has none."""
    return {sign: list(ks) for sign, ks in (protocol.set_to("k") if "k" in protocol.entry.options else {}).items()}


def within(protocols: Sequence[Choice], space: Sequence[int]) -> list[Choice]:
    """Return the protocols with K lists that fit inputs of a spatial shape.

    Of a default list the K beyond all pixels are dropped. Raises RapbenchError where a user's own list has one. A K
    beyond the pixels of one sign stays: a map that has fewer gives all it has, as in the paper. Shares stay shares;
    RapbenchError where a list that has some does not ascend, or one is no pixel. Other options are fitted by
    the protocol itself.
    """
    found = []
    for protocol in protocols:
        asked = ks_of(protocol)
        fitting = {sign: _fitting(protocol, sign, ks, space) for sign, ks in asked.items()}
        changes = ({"k": fitting} if fitting != asked else {}) | protocol.protocol.fitted(space)
        found.append(replace(protocol, options=protocol.options | changes) if changes else protocol)
    return found


def _fitting(protocol: Choice, sign: str, ks: list[int | str], space: Sequence[int]) -> list[int | str]:
    pixels = math.prod(space)
    beyond = [k for k in ks if isinstance(k, int) and k > pixels]
    fitting = [k for k in ks if k not in beyond]
    if beyond and (not fitting or ks != list(protocol.entry.options["k"].get(sign, ()))):
        raise RapbenchError(
            f"protocol {protocol.label!r}: k.{sign} has {beyond[0]}, but an image has {pixels_said(space)}; "
            "take fewer, or all"
        )
    where = f"protocol {protocol.label!r}: k.{sign} has"
    numbers = [number_of(k, pixels) for k in fitting if k != "all"]
    for k, number in zip(fitting, numbers, strict=False):
        if is_share(k) and number == 0:
            raise RapbenchError(f"{where} {k}, which is no pixel: an image has {pixels_said(space)}; take more")
    for place in range(1, len(numbers)):
        if numbers[place] <= numbers[place - 1]:
            first, second = (f"{fitting[at]} ({numbers[at]:,} pixels)" for at in (place - 1, place))
            raise RapbenchError(
                f"{where} {first} before {second}, but must ascend, no number twice; an image has {pixels_said(space)}"
            )
    return fitting
