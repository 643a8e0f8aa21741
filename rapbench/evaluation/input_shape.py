"""The shape of a run's inputs: stated by the model, or that of the data."""

import math
from collections.abc import Sequence

from PIL import Image

from rapbench.core.errors import RapbenchError
from rapbench.data.labelled.dataset import Dataset
from rapbench.model import Model


def input_shape(model: Model, dataset: Dataset) -> tuple[int, ...]:
    """Return an input's shape, (C, *space). Raises RapbenchError where neither knows, or the data is of another."""
    stated = (model.channels, model.space)
    if dataset.shape is None:
        if model.channels is not None and model.space is not None:
            return (model.channels, *model.space)
        return tuple(model.transform(Image.new("RGB", (256, 256))).shape)
    channels, *space = dataset.shape
    if stated[0] not in (None, channels) or stated[1] not in (None, tuple(space)):
        takes = [f"{stated[0]} channels" if stated[0] else "", f"size {said(stated[1])}" if stated[1] else ""]
        raise RapbenchError(
            f"{model.facts.name} states {' and '.join(filter(None, takes))} (mean, std, size), but {dataset.where} has "
            f"inputs of {channels} channels and size {said(space)}"
        )
    return dataset.shape


def said(space: Sequence[int]) -> str:
    """Return a shape in words, such as 32 x 48."""
    return " x ".join(map(str, space))


def pixels_said(space: Sequence[int]) -> str:
    """Return how many pixels an input has, in words, such as 32 x 32 = 1,024 pixels."""
    return f"{said(space)} = {math.prod(space):,} pixels" if len(space) > 1 else f"{space[0]:,} pixels"
