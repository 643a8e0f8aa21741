"""What linear imputation costs: for a whole batch, against SciPy's sparse solver image by image, in one run.

Usage: python benchmarks/road.py [MODEL], on the embedded images. At 10, 50 and 90 % of the pixels, removed at random
and as heatmaps do, in contiguous parts; also in forward passes of the same batch.
"""

import time

import numpy as np
import torch
from _measure import passes, real_batch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import spsolve
from torch import Tensor

from rapbench.core.precision import Precision
from rapbench.evaluation.answers import forward_of
from rapbench.protocols.base.imputation import linearly_imputed

BATCH = 8
REPEATS = 3


def masks(kind: str, share: float, space: tuple[int, ...]) -> Tensor:
    """Return (BATCH, *space) masks; contiguous ones are the largest values of smooth noise."""
    drawn = np.random.default_rng(0).standard_normal((BATCH, *space))
    if kind == "contiguous":
        drawn = np.stack([gaussian_filter(one, space[0] / 12) for one in drawn])
    ranks = torch.tensor(drawn).flatten(1).argsort(1).argsort(1)
    return (ranks < round(share * ranks.shape[1])).view(BATCH, *space)


def by_scipy(image: NDArray[np.float32], removed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the removed pixels' values, (pixels, C), of one image, (C, H, W): the same system, solved directly."""
    height, width = removed.shape
    number = np.full((height + 2, width + 2), -1)
    number[1:-1, 1:-1][removed] = np.arange(removed.sum())
    exists = np.pad(np.ones_like(removed), 1)
    values = np.pad(image * ~removed, ((0, 0), (1, 1), (1, 1)))
    y, x = np.nonzero(removed)
    rows, columns, weights = [], [], []
    sums, right = np.zeros(len(y)), np.zeros((len(y), len(image)))
    for down in (0, 1, 2):
        for along in (0, 1, 2):
            if down == along == 1:
                continue
            weight = 2.0 if 1 in (down, along) else 1.0
            there = number[y + down, x + along]
            inside = there >= 0
            rows.append(np.flatnonzero(inside))
            columns.append(there[inside])
            weights.append(np.full(inside.sum(), -weight))
            sums += weight * exists[y + down, x + along]
            right += weight * values[:, y + down, x + along].T
    every = np.arange(len(y))
    entries = np.concatenate([*weights, sums]), (np.concatenate([*rows, every]), np.concatenate([*columns, every]))
    found: NDArray[np.float64] = spsolve(coo_matrix(entries).tocsc(), right)
    return found


def main() -> None:
    """Print the times as a table."""
    model, images, _ = real_batch(BATCH)
    forward = forward_of(model, Precision.fp32)
    space = tuple(images.shape[2:])
    threads = torch.get_num_threads()
    print(f"{model.facts.name}, {BATCH} images of {' x '.join(map(str, space))}, {threads} thread(s); per image:")
    print("  removed                 ms   SciPy, ms   ratio   forward passes   largest difference")
    for kind in ("random", "contiguous"):
        for share in (0.1, 0.5, 0.9):
            removed = masks(kind, share, space)

            def ours(removed: Tensor = removed) -> Tensor:
                return linearly_imputed(images, removed)

            def one() -> Tensor:
                with torch.inference_mode():
                    return forward(images)

            cost = passes(ours, one, REPEATS)
            start = time.perf_counter()
            found = ours()
            mine = (time.perf_counter() - start) / BATCH
            start = time.perf_counter()
            theirs = by_scipy(images[0].numpy(), removed[0].numpy())
            direct = time.perf_counter() - start
            apart = np.abs(found[0].numpy()[:, removed[0].numpy()].T - theirs).max()
            print(f"  {kind:10s} {share:5.0%} {mine * 1e3:9.0f} {direct * 1e3:11.0f} {direct / mine:7.1f} {cost:16.1f} "
                  f"{apart:20.1e}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
