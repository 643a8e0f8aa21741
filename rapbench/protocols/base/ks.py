"""The numbers of pixels, K, that a protocol perturbs: how they are written in a configuration."""

from collections.abc import Mapping, Sequence

from rapbench.core.errors import RapbenchError
from rapbench.core.signs import Sign

Ks = Mapping[Sign, Sequence[int | str]]
MOST = 10**9  # beyond any image's pixels


def check_ks(ks: object) -> None:
    """Raise RapbenchError for K lists that are not by sign, or do not ascend with `all` last; it says which and how."""
    if not isinstance(ks, Mapping) or not set(ks) <= {"positive", "negative"} or not ks:
        raise RapbenchError(f"k must give lists for positive and/or negative, got {ks!r:.100}")
    for sign, given in ks.items():
        if not isinstance(given, (list, tuple)):
            raise RapbenchError(f"k.{sign} must be a list, such as [0,250,all], got {given!r:.100}")
        values = list(given)
        numbers = [value for value in values if value != "all"]
        if not all(type(value) is int and 0 <= value <= MOST for value in numbers):
            raise RapbenchError(f"k.{sign} must hold whole numbers of pixels or all, got {values!s:.100}")
        if numbers != sorted(set(numbers)) or values != numbers + ["all"] * ("all" in values) or not values:
            raise RapbenchError(f"k.{sign} must ascend, with all last, got {values!s:.100}")
