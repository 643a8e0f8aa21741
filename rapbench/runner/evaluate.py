"""Perturbed forward passes: many (image, K) pairs in one pass, one copy back per chunk."""

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from rapbench.config import Precision
from rapbench.protocols.ranking import Ranking

Forward = Callable[[Tensor], Tensor]


def forward_of(network: nn.Module, precision: Precision) -> Forward:
    """Return images (N, 3, H, W) float32 -> logits (N, classes) float32, computed channels-last in `precision`.

    The network itself is not changed: bf16 works on a copy.
    """
    dtype = torch.float32
    if precision is Precision.bf16:
        dtype = torch.bfloat16
        network = copy.deepcopy(network).to(dtype)

    def forward(images: Tensor) -> Tensor:
        return network(images.to(dtype, memory_format=torch.channels_last)).float()

    return forward


@torch.inference_mode()
def perturb_and_predict(
    forward: Forward,
    perturb: Callable[..., Tensor],
    images: Tensor,
    labels: Tensor,
    clean: Tensor,
    ranking: Ranking,
    ks: list[int | str],
    seed: Callable[[int, int | str], int],
    batch: int,
) -> dict[str, np.ndarray]:
    """Perturb each image at each K and ask the model again.

    images: (N, C, H, W). labels: (N,). clean: (N, classes) logits of the images as they are, the answer for K = 0.
    seed: (index in the chunk, K) -> what a random draw hangs on. Returns (N * number of K,) columns, K by K within an
    image: row (index in the chunk), k, selected, predicted, correct, logit.
    """
    count = len(images)
    selected = torch.stack([ranking.selected(k) for k in ks], 1)
    pairs = [(row, column) for column, k in enumerate(ks) if k != 0 for row in range(count)]
    logits = clean[:, None].repeat(1, len(ks), 1)
    counts = selected.tolist()
    for start in range(0, len(pairs), batch):
        rows, columns = (list(numbers) for numbers in zip(*pairs[start : start + batch], strict=True))
        seeds = [seed(row, ks[column]) for row, column in zip(rows, columns, strict=True)]
        most = max(counts[row][column] for row, column in zip(rows, columns, strict=True))
        perturbed = perturb(
            images[rows], ranking.order[rows, :most], selected[rows, columns], torch.tensor(seeds, device=images.device)
        )
        logits[rows, columns] = forward(perturbed)
    predicted = logits.argmax(2)
    target = logits.gather(2, labels[:, None, None].expand(-1, len(ks), 1))[:, :, 0]
    packed = torch.stack([selected.double(), predicted.double(), target.double()]).cpu().numpy()  # the one copy back
    predicted_labels = packed[1].astype(np.int32)
    return {
        "row": np.repeat(np.arange(count, dtype=np.int32), len(ks)),
        "k": np.tile(np.array([str(k) for k in ks]), count),
        "selected": packed[0].astype(np.int32).ravel(),
        "predicted": predicted_labels.ravel(),
        "correct": (predicted_labels == labels.cpu().numpy()[:, None]).ravel(),
        "logit": packed[2].astype(np.float32).ravel(),
    }


@torch.inference_mode()
def measure(
    of: Callable[..., Tensor], ranking: Ranking, ks: list[int | str], width: int, name: str
) -> dict[str, np.ndarray]:
    """Measure a ranking at each K: columns row, k, selected and the measure's own, like `perturb_and_predict`'s."""
    count = len(ranking.order)
    selected = torch.stack([ranking.selected(k) for k in ks], 1)
    values = of(ranking.order, selected, width).cpu().numpy()
    return {
        "row": np.repeat(np.arange(count, dtype=np.int32), len(ks)),
        "k": np.tile(np.array([str(k) for k in ks]), count),
        "selected": selected.cpu().numpy().astype(np.int32).ravel(),
        name: values.ravel(),
    }
