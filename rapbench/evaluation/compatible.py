"""Whether a model and a data set belong together, before anything is computed: what accuracy means depends on it."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from rapbench.core.errors import RapbenchError
from rapbench.core.limits import out_of_memory
from rapbench.data.labelled.dataset import UNLABELLED, Dataset
from rapbench.data.subset.manifest import Subset
from rapbench.evaluation.input_shape import said
from rapbench.model import Model

ADVICE = {
    "folder": "use a network for the classes in data.root, data=imagenet where its folders are ImageNet's synsets "
    "(such as n01440764), or data.labels=predicted",
    "imagenet": "use a network for ImageNet's classes, data=folder data.labels=folders for class folders of your own, "
    "or data.labels=predicted",
    "samples": "use images of the network's own classes: data=folder data.root=/path data.labels=folders",
}


def logits_of(model: Model, shape: Sequence[int], device: torch.device) -> int:
    """Return how many logits a model answers with; shape: (C, *space), of an input.

    Raises RapbenchError where there are none to choose from, or not as many as the class names that it states.
    """
    name = model.facts.name
    with torch.inference_mode():
        try:
            found = model(torch.zeros(1, *shape, device=device))
        except Exception as error:
            if out_of_memory(error):  # which says nothing of the model
                raise
            reason = " ".join(str(error).split())[:200]
            if out_of_memory(error):
                why = reason or type(error).__name__
                raise RapbenchError(f"memory runs out even with one image at a time ({why})") from error
            raise RapbenchError(
                f"{name} cannot be asked for an image of {said(shape)} ({type(error).__name__}: {reason})"
            ) from error
    if not isinstance(found, Tensor) or found.dim() != 2 or len(found) != 1:
        what = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise RapbenchError(
            f"{name} returns {what} for one image; wrap it so that it returns its logits, of shape (1, classes)"
        )
    if found.shape[1] < 2:
        raise RapbenchError(
            f"{name} has one logit, which is the largest for every image, so that accuracy is 100 % at every K; use a "
            "network with a logit for each class, two for yes and no"
        )
    if len(model.class_names) not in (0, found.shape[1]):
        raise RapbenchError(
            f"class_names has {len(model.class_names):,} names, but {name} has {found.shape[1]:,} classes"
        )
    return found.shape[1]


def check_classes(models: Sequence[tuple[str, int]], dataset: Dataset) -> None:
    """Raise RapbenchError where a model's logits cannot be those of the data set's labels.

    models: each one's name and number of logits.
    """
    labels = {sample.label for sample in dataset.samples}
    if labels == {UNLABELLED}:
        if len({logits for _, logits in models}) > 1:
            known = ", ".join(f"{name} {logits:,}" for name, logits in models)
            raise RapbenchError(f"these models cannot agree on labels, their numbers of classes differ: {known}")
        return
    if UNLABELLED in labels:
        bare = next(sample.file for sample in dataset.samples if sample.label == UNLABELLED)
        raise RapbenchError(f"data={dataset.name}: some images have a label, but not all, such as {bare}")
    for name, logits in models:
        if dataset.classes not in (None, logits):
            advice = ADVICE.get(dataset.name, "use a network for these classes")
            of = "one class" if dataset.classes == 1 else f"{dataset.classes:,} classes"
            raise RapbenchError(f"the labels of data={dataset.name} are of {of}, but {name} has {logits:,}; {advice}")
        _check_range(name, logits, ((sample.file, sample.label) for sample in dataset.samples))


def check_subset(model: Model, logits: int, subset: Subset) -> None:
    """Raise RapbenchError for labels beyond a model's classes, and for a model that gives one answer to all images."""
    name = model.facts.name
    _check_range(name, logits, ((row.file, row.label) for row in subset.rows))
    drawn = [row for row in subset.rows if (row.model, row.weights_sha256) == (name, model.weights_sha256)]
    if len({row.sha256 for row in drawn}) > 1 and len({(row.label, row.logit) for row in drawn}) == 1:
        raise RapbenchError(
            f"{name} gives all {len(drawn)} images the same label and logit: it does not depend on its input, and no "
            "perturbation would show; are its weights and its preprocessing right?"
        )


def _check_range(name: str, logits: int, labelled: Iterable[tuple[str, int]]) -> None:
    for file, label in labelled:
        if not 0 <= label < logits:
            raise RapbenchError(f"input {file} has label {label}, but {name} has {logits:,} classes, 0 to {logits - 1}")
