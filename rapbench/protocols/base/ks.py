"""The numbers of pixels, K, that a protocol perturbs: counts, shares of an input's pixels such as 5%, and all."""

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction

from rapbench.core.errors import RapbenchError
from rapbench.core.signs import Sign

Ks = Mapping[Sign, Sequence[int | str]]
MOST = 10**9  # beyond any image's pixels
SHARE = re.compile(r"(?:0|[1-9][0-9]{0,2})(?:\.[0-9]{0,7}[1-9])?%")  # one text for each number


def check_ks(ks: object) -> None:
    """Raise RapbenchError for K lists that are not by sign, or do not ascend with `all` last; it says which and how.

    Whether a count and a share ascend depends on the size of the inputs, and is checked with them.
    """
    if not isinstance(ks, Mapping) or not set(ks) <= {"positive", "negative"} or not ks:
        raise RapbenchError(f"k must give lists for positive and/or negative, got {ks!r:.100}")
    for sign, given in ks.items():
        check_list(f"k.{sign}", given)


def check_list(name: str, given: object) -> None:
    """Raise RapbenchError for an option that is no list of K, ascending with `all` last; name: the option's."""
    if not isinstance(given, (list, tuple)):
        raise RapbenchError(f"{name} must be a list, such as [0,250,all], got {given!r:.100}")
    values = list(given)
    numbers = [value for value in values if value != "all"]
    if wrong := [value for value in numbers if not _is_count(value) and not is_share(value)]:
        raise RapbenchError(
            f"{name} must hold whole numbers of pixels, shares of all pixels such as 0.5% or 20%, or all, got "
            f"{wrong[0]!r:.40} in {values!s:.100}"
        )
    counts, shares = ([value for value in numbers if is_share(value) is share] for share in (False, True))
    ascend = _ascend(counts) and _ascend([number_of(share, MOST) for share in shares])
    if not ascend or values != numbers + ["all"] * ("all" in values) or not values:
        raise RapbenchError(f"{name} must ascend, with all last, got {values!s:.100}")


def check_shares(option: str, shares: Sequence[str]) -> None:
    """Raise RapbenchError for shares of all pixels that are none, do not ascend or reach 100%; option: their name."""
    if wrong := [share for share in shares if not is_share(share) or Fraction(share[:-1]) == 100]:
        raise RapbenchError(f"{option} must hold shares of all pixels above 0 and below 100%, such as 0.5% or 20%, got "
                            f"{wrong[0]!r:.40}")  # fmt: skip
    if not shares or not _ascend([number_of(share, MOST) for share in shares]):
        raise RapbenchError(f"{option} must ascend, and hold at least one, got {list(shares)!s:.100}")


def is_share(k: object) -> bool:
    """Whether a K is a share of all pixels, above 0 and up to 100%."""
    return isinstance(k, str) and bool(SHARE.fullmatch(k)) and 0 < Fraction(k[:-1]) <= 100


def number_of(k: int | str, pixels: int) -> int:
    """Return how many pixels a K is, of inputs that have `pixels`; `all` is every pixel. A count may be as text."""
    if k == "all":
        return pixels
    return round(Fraction(str(k)[:-1]) * pixels / 100) if is_share(k) else int(k)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MOST


def _ascend(values: list[int]) -> bool:
    return values == sorted(set(values))
