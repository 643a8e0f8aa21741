"""What a model says of images in the order of a draw: the part of the subset's choice that computes."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from rapbench.core.errors import RapbenchError
from rapbench.core.memory_format import channels_last
from rapbench.data.decoding.decode import Decoded, stacked
from rapbench.data.labelled.dataset import UNLABELLED, Sample

if TYPE_CHECKING:
    from rapbench.model import Model

# Images in one pass and in one kept file; part of a draw's identity, as rounding depends on it.
BATCH = 16


@dataclass(frozen=True)
class Verdict:
    """What a model says of an image. error: why it could not be decoded. logit: of its label, or of the prediction."""

    file: str
    label: int
    sha256: str
    predicted: int
    logit: float
    error: str = ""

    @property
    def correct(self) -> bool:
        """Whether the label is predicted; what has no label cannot be wrong."""
        return not self.error and self.label in (self.predicted, UNLABELLED)


def draw_order(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """Return the samples in the order of the draw: a seeded shuffle over the sorted file names."""
    drawn = sorted(samples, key=lambda sample: sample.file)
    random.Random(seed).shuffle(drawn)
    return drawn


@torch.inference_mode()
def judge(model: "Model", images: list[Decoded], device: torch.device) -> list[Verdict]:
    """Return the verdicts on a batch of images. Raises RapbenchError for a label that the model has no class for."""
    good = [image for image in images if image.pixels is not None]
    logits = iter(model(channels_last(stacked(good).to(device))).cpu() if good else ())
    verdicts = []
    for image in images:
        sample = image.sample
        if image.pixels is None:
            verdicts.append(Verdict(sample.file, sample.label, image.sha256, UNLABELLED, 0.0, image.error))
            continue
        scores = next(logits)
        if sample.label >= len(scores):
            raise RapbenchError(
                f"{sample.file} has label {sample.label}, but {model.facts.name} has {len(scores)} classes"
            )
        predicted = int(scores.argmax())
        logit = float(scores[predicted if sample.label == UNLABELLED else sample.label])
        verdicts.append(Verdict(sample.file, sample.label, image.sha256, predicted, logit))
    return verdicts
