"""The numbers of pixels, K, that a protocol perturbs: how they are written in a configuration."""

from typing import Literal

from rapbench.errors import RapbenchError

Sign = Literal["positive", "negative"]
MOST = 10**9  # beyond any image's pixels


def check_ks(name: str, ks: object) -> dict[Sign, list[int | str]]:
    """Return a protocol's K lists by sign; each must ascend, with `all` last.

    Raises RapbenchError that says which list is wrong and how.
    """
    if not isinstance(ks, dict) or not set(ks) <= {"positive", "negative"} or not ks:
        raise RapbenchError(f"protocol {name!r}: k must give lists for positive and/or negative, got {ks!r:.100}")
    for sign, values in ks.items():
        where = f"protocol {name!r}: k.{sign}"
        if not isinstance(values, list):
            raise RapbenchError(f"{where} must be a list, such as [0,250,all], got {values!r:.100}")
        numbers = [value for value in values if value != "all"]
        if not all(type(value) is int and 0 <= value <= MOST for value in numbers):
            raise RapbenchError(f"{where} must hold whole numbers of pixels or all, got {values!s:.100}")
        if numbers != sorted(set(numbers)) or values != numbers + ["all"] * ("all" in values) or not values:
            raise RapbenchError(f"{where} must ascend, with all last, got {values!s:.100}")
    return ks
