"""Parameter randomisation: how alike a heatmap stays while the network's weights become random."""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.model import Model
from rapbench.model.randomised import Randomised
from rapbench.protocols import protocols
from rapbench.protocols.base.batch import Batch, Step
from rapbench.protocols.base.metric import Metric
from rapbench.protocols.base.protocol import Protocol
from rapbench.protocols.base.similarity import check_window, spearman, ssim

_KNOWN: weakref.WeakKeyDictionary[nn.Module, dict[int, Randomised]] = weakref.WeakKeyDictionary()


@protocols.register("parameter_randomisation")
@dataclass(frozen=True, kw_only=True)
class ParameterRandomisation(Protocol):
    """Parameter randomisation test [adebayo2018sanity]: layers get random weights in stages, from the logits down.

    At each stage the heatmap is compared with that of the trained network. A method's own random numbers stay as they
    were. The trained network is not touched: stages are copies that share its other weights.

    Parameters
    ----------
    order : {"cascading", "independent"}
        Whether the layers above stay random at the next stage, or each stage has one random layer.
    stages : int
        They are even over the layers with parameters.
    """

    step_name: ClassVar[str] = "stages of layers randomised, from the logits down"
    metrics: ClassVar[Sequence[Metric]] = tuple(
        Metric(name, {"": "lower"}, title=title, decimals=3)
        for name, title in (
            ("spearman", "rank correlation with the trained network's heatmap"),
            ("spearman_absolute", "rank correlation of absolute values"),
            ("ssim", "SSIM with the trained network's heatmap"),
        )
    )

    order: Literal["cascading", "independent"] = "cascading"
    stages: PositiveInt = 10

    def variants(self, signs: Sequence[str]) -> dict[str, list[Step]]:
        """Return the stages, whatever the signs."""
        return {"": list(range(1, self.stages + 1))}

    def evaluate(self, batch: Batch, variant: str, steps: list[Step]) -> dict[str, Tensor]:
        """Return the similarities, (N, number of stages) float64 each, NaN where a heatmap is constant or zero."""
        model, networks = _stages(batch)
        found: dict[str, list[Tensor]] = {metric.name: [] for metric in self.metrics}
        for step in steps:
            network = networks.stage(model, int(step), self.stages, cascading=self.order == "cascading")
            heatmaps = batch.attribute(model=network)
            found["spearman"].append(spearman(batch.heatmaps, heatmaps))
            found["spearman_absolute"].append(spearman(batch.heatmaps.abs(), heatmaps.abs()))
            found["ssim"].append(ssim(batch.heatmaps, heatmaps))
        return {name: torch.stack(values, 1) for name, values in found.items()}

    def asked(self, signs: Sequence[str]) -> int:
        """Return 0: the heatmaps are all that is looked at."""
        return 0

    def recomputed(self) -> int:
        """Return the number of stages."""
        return self.stages

    def check(self, space: Sequence[int]) -> None:
        """Raise RapbenchError for maps too small for SSIM."""
        check_window(space)


def _stages(batch: Batch) -> tuple[Model, Randomised]:
    """Return the batch's network and its stages, which are made once while it lives."""
    model = batch.model
    if not isinstance(model, Model):
        raise RapbenchError("parameter randomisation needs a rapbench.Model, which ready-made heatmaps do not have")
    known = _KNOWN.setdefault(model, {})
    if batch.seed not in known:
        known[batch.seed] = Randomised(model, batch.inputs, batch.seed)
    return model, known[batch.seed]
