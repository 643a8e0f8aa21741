"""Whether the paper's Table I can stand beside a run's."""

from collections.abc import Iterable
from typing import Any

from omegaconf import DictConfig

from rapbench.app.config import Paper
from rapbench.data.labelled.dataset import UNLABELLED, Dataset
from rapbench.data.layouts.synsets import CLASSES
from rapbench.evaluation.choice import Choice
from rapbench.evaluation.input_shape import input_shape, said
from rapbench.model import Model
from rapbench.results.info import ProtocolInfo
from rapbench.results.layouts import PERTURBATION, layout_of

SPACE = (224, 224)  # pixels, of the paper's VGG-16: a K is another share of a larger or smaller image
IMAGENET = ("imagenet", "samples")  # data sets


def paper_beside(
    config: DictConfig, model: Model, dataset: Dataset, methods: Iterable[Choice], protocols: Iterable[Choice]
) -> dict[str, Any]:
    """Return what `report.about.Paper` holds, for a run's provenance.

    A row is the paper's where its label names the method itself. `paper=on` shows them whatever was run; `auto` only
    for ImageNet's images and labels, a network of its 1,000 classes at the paper's size, and perturbations as the
    paper's.
    """
    named = [choice.label for choice in methods if choice.label == choice.entry.name]
    own = [choice for choice in protocols if choice.label == choice.entry.name]
    same = [choice for choice in own if layout_of(ProtocolInfo.of(choice.protocol)) == PERTURBATION]
    default = [choice.label for choice in same if _options(choice.entry.options | choice.options) == _options(
        choice.entry.options)]  # fmt: skip
    shown = config.paper is not Paper.off
    perturbations = [choice.label for choice in same] if config.paper is Paper.on else default
    reason = ""
    if config.paper is Paper.auto:
        if why := _why_not(model, dataset):
            shown, reason = False, f"The paper's numbers are not shown: {why}."
        elif others := [choice.label for choice in same if choice.label not in default]:
            reason = f"The paper's numbers are not shown for {', '.join(others)}: other options than the paper's."
    return {"setting": config.paper.name, "shown": shown, "methods": named, "perturbations": perturbations,
            "reason": reason}  # fmt: skip


def _options(options: dict[str, Any]) -> dict[str, Any]:
    """Return options but for the K: each cell stands beside the paper's of its own K."""
    return {name: value for name, value in options.items() if name != "k"}


def _why_not(model: Model, dataset: Dataset) -> str:
    if dataset.name not in IMAGENET or dataset.samples[0].label == UNLABELLED:
        return "they are of ImageNet's images with their own labels"
    if model.facts.classes != CLASSES:
        has = "is not known to be of" if model.facts.classes is None else f"has {model.facts.classes:,} classes, not"
        return f"the network {has} ImageNet's {CLASSES:,}"
    if (space := input_shape(model, dataset)[1:]) != SPACE:
        return f"their K are of {said(SPACE)} pixels, these images have {said(space)}"
    return ""
