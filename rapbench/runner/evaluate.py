"""Perturbed forward passes: many (image, K) pairs in one pass, one copy back per chunk."""

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from rapbench.config import Precision
from rapbench.layout import channels_last
from rapbench.protocols.ranking import Ranking
from rapbench.protocols.regions import Regions

Forward = Callable[[Tensor], Tensor]


def forward_of(network: nn.Module, precision: Precision) -> Forward:
    """Return images (N, C, *space) float32 -> logits (N, classes) float32, computed channels-last in `precision`.

    The network itself is not changed: bf16 works on a copy.
    """
    dtype = torch.float32
    if precision is Precision.bf16:
        dtype = torch.bfloat16
        network = copy.deepcopy(network).to(dtype)

    def forward(images: Tensor) -> Tensor:
        return network(channels_last(images.to(dtype))).float()

    return forward


def label_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """Return (P,), the labels' logits; logits: (P, classes). labels: (P,)."""
    return logits.gather(1, labels[:, None])[:, 0]


def perturb_and_predict(
    forward: Forward,
    perturb: Callable[..., Tensor],
    images: Tensor,
    labels: Tensor,
    clean: Tensor,
    ranking: Ranking,
    ks: list[int | str],
    seeds: Tensor,
    batch: int,
) -> dict[str, np.ndarray]:
    """Perturb each image at each K and ask the model again.

    images: (N, C, *space). labels: (N,). clean: (N, classes) logits of the images as they are, the answer for K = 0.
    seeds: (N,), what random draws depend on. Returns (N * number of K,) columns, K by K within an image: row (index in
    the chunk), k, selected, predicted, correct, logit.
    """
    selected = torch.stack([ranking.selected(k) for k in ks], 1)
    counts = selected.tolist()

    def perturbed(rows: list[int], columns: list[int]) -> Tensor:
        most = max(counts[row][column] for row, column in zip(rows, columns, strict=True))
        return perturb(images[rows], ranking.order[rows, :most], selected[rows, columns], seeds[rows])

    predicted, logit = _answers(forward, perturbed, label_logits, labels, clean, ks, batch)
    k = np.array([str(k) for k in ks])
    return _table(labels, {"k": k}, {"selected": selected, "predicted": predicted, "logit": logit})


def replace_and_predict(
    forward: Forward, regions: Regions, order: str, steps: list[int], labels: Tensor, clean: Tensor, batch: int
) -> dict[str, np.ndarray]:
    """Ask the model after each number of steps in an order; labels, clean as in `perturb_and_predict`.

    Returns (N * number of steps,) columns, step by step within an image: row (index in the chunk), step, output,
    predicted, correct, score.
    """

    def perturbed(rows: list[int], columns: list[int]) -> Tensor:
        return regions.after(order, rows, torch.tensor([steps[column] for column in columns], device=labels.device))

    predicted, score = _answers(forward, perturbed, regions.score, labels, clean, steps, batch)
    places = {"step": np.array(steps, dtype=np.int32), "output": np.array([regions.output] * len(steps))}
    return _table(labels, places, {"predicted": predicted, "score": score})


@torch.inference_mode()
def measure(
    of: Callable[..., Tensor], ranking: Ranking, ks: list[int | str], space: Sequence[int], name: str
) -> dict[str, np.ndarray]:
    """Measure rankings of maps of shape `space` at each K.

    Returns columns row, k, selected and the measure's own, like `perturb_and_predict`'s.
    """
    count = len(ranking.order)
    selected = torch.stack([ranking.selected(k) for k in ks], 1)
    values = of(ranking.order, selected, space).cpu().numpy()
    return {
        "row": np.repeat(np.arange(count, dtype=np.int32), len(ks)),
        "k": np.tile(np.array([str(k) for k in ks]), count),
        "selected": selected.cpu().numpy().astype(np.int32).ravel(),
        name: values.ravel(),
    }


@torch.inference_mode()
def _answers(
    forward: Forward,
    perturbed: Callable[[list[int], list[int]], Tensor],
    read: Callable[[Tensor, Tensor], Tensor],
    labels: Tensor,
    clean: Tensor,
    ks: Sequence[int | str],
    batch: int,
) -> tuple[Tensor, Tensor]:
    """Return (N, number of K) predictions, and what `read` reads from logits for labels; K = 0 is the clean answer.

    perturbed: (indices in the chunk, places among the K) -> a batch of images.
    """
    pairs = [(row, column) for column, k in enumerate(ks) if k != 0 for row in range(len(labels))]
    predicted = clean.argmax(1)[:, None].repeat(1, len(ks))
    values = read(clean, labels)[:, None].repeat(1, len(ks))
    for start in range(0, len(pairs), batch):
        rows, columns = (list(numbers) for numbers in zip(*pairs[start : start + batch], strict=True))
        logits = forward(perturbed(rows, columns))
        predicted[rows, columns] = logits.argmax(1)
        values[rows, columns] = read(logits, labels[rows])
    return predicted, values


def _table(labels: Tensor, places: dict[str, np.ndarray], found: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Return columns of (N, number of places) tensors, `predicted` among them, and of what names the places."""
    count, width = found["predicted"].shape
    packed = torch.stack([values.double() for values in found.values()]).cpu().numpy()  # the one copy back
    table = {"row": np.repeat(np.arange(count, dtype=np.int32), width)}
    table |= {name: np.tile(values, count) for name, values in places.items()}
    for name, values in zip(found, packed, strict=True):
        table[name] = values.astype(np.int32 if name in ("selected", "predicted") else np.float32).ravel()
        if name == "predicted":
            table["correct"] = table[name] == labels.cpu().numpy().repeat(width)
    return table
