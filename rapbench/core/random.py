"""Random draws seeded by names, not by state: same name, same numbers, on every device, in every order.

The generator is splitmix64 [steele2014fast].
"""

import hashlib

import torch
from torch import Tensor

_GAMMA = -7046029254386353131  # 0x9E3779B97F4A7C15 as int64; the odd constants of splitmix64
_MIX1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX2 = -7723592293110705685  # 0x94D049BB133111EB


def seed_of(*parts: object) -> int:
    """Return a signed 64-bit seed that depends on every part's text and on nothing else."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def random_keys(seeds: Tensor, count: int) -> Tensor:
    """Return uniform 64-bit integers, a row for each seed: splitmix64 as a function of (seed, index).

    Parameters
    ----------
    seeds : Tensor
        (B,) int64, on the device where the keys are wanted.
    count : int
        Keys of each row. A longer row begins with the shorter one.

    Returns
    -------
    Tensor
        (B, count) int64.
    """
    return keys_at(seeds, torch.arange(count, device=seeds.device)[None])


def keys_at(seeds: Tensor, index: Tensor) -> Tensor:
    """Return the keys at some places of the rows of `random_keys`, shaped like index: (B, n) or (1, n), from 0."""
    z = seeds[:, None] + (index + 1) * _GAMMA
    z = (z ^ _shift(z, 30)) * _MIX1
    z = (z ^ _shift(z, 27)) * _MIX2
    return z ^ _shift(z, 31)


def random_uniform(seeds: Tensor, count: int) -> Tensor:
    """Return (B, count) float32 numbers in (-1, 1), symmetric around 0 and never 0; seeds as in `random_keys`."""
    return _uniform(random_keys(seeds, count))


def random_normal(seeds: Tensor, count: int) -> Tensor:
    """Return (B, count) float32 numbers of the standard normal distribution; seeds as in `random_keys`.

    `normal_at` the first places, rounded: so the last bits, in which devices' functions may differ, do not show.
    """
    return normal_at(seeds, torch.arange(count, device=seeds.device)[None]).float()


def normal_at(seeds: Tensor, index: Tensor) -> Tensor:
    """Return standard normal numbers, float64, at some places of rows of draws; seeds and index as in `keys_at`.

    The normal distribution's quantiles of the numbers of `random_uniform`, so that none is beyond 5.2.
    """
    return torch.erfinv(_uniform(keys_at(seeds, index)).double()) * 2**0.5


def _uniform(keys: Tensor) -> Tensor:
    return (_shift(keys, 41) + 0.5) / 2**22 - 1  # 23 bits and a half are exact in float32


def _shift(z: Tensor, bits: int) -> Tensor:
    """Shift right without the sign (int64's own shift copies it)."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)
