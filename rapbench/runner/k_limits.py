"""K lists against the size of the images: more pixels than there are cannot be perturbed."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import yaml

from rapbench.errors import RapbenchError
from rapbench.paths import resource
from rapbench.protocols.ranking import Sign
from rapbench.runner.choice import Choice
from rapbench.zoo._model import ZooModel


def side_of(model: ZooModel) -> int:
    """Return the height and width of a model's input, in pixels."""
    return model.transform.crop


def within(protocols: Sequence[Choice], side: int) -> list[Choice]:
    """Return the protocols with K lists that fit square images of `side` pixels.

    Of a default list the K beyond all pixels are dropped. Raises RapbenchError where a user's own list has one. A K
    beyond the pixels of one sign stays: a map that has fewer gives all it has, as in the paper.
    """
    return [replace(protocol, ks={sign: _fitting(protocol, sign, ks, side) for sign, ks in protocol.ks.items()})
            for protocol in protocols]  # fmt: skip


def _fitting(protocol: Choice, sign: Sign, ks: list[int | str], side: int) -> list[int | str]:
    beyond = [k for k in ks if isinstance(k, int) and k > side**2]
    fitting = [k for k in ks if k not in beyond]
    if beyond and (not fitting or ks not in _defaults(protocol.entry.name, sign)):
        raise RapbenchError(
            f"protocol {protocol.label!r}: k.{sign} has {beyond[0]}, but an image has {side} x {side} = {side**2:,} "
            "pixels; take fewer, or all"
        )
    return fitting


@functools.cache
def _defaults(name: str, sign: Sign) -> list[list[int | str]]:
    """Return the K lists that nobody chose: a protocol's own, and those of a run."""
    sections: list[Any] = [yaml.safe_load(resource("configs", "run.yaml").read_text("utf-8"))]
    own = resource("configs", "protocol") / f"{name}.yaml"
    if own.is_file():
        sections.append(yaml.safe_load(own.read_text("utf-8")))
    lists = [section["k"] for section in sections if isinstance(section.get("k"), dict)]
    return [found[sign] for found in lists if sign in found]
