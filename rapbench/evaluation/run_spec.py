"""What a run is asked for, whatever asked for it: a command line's configuration, or Python."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rapbench.core.precision import Precision
from rapbench.evaluation.shard import Shard

if TYPE_CHECKING:
    import torch

    from rapbench.data.labelled.dataset import Dataset
    from rapbench.evaluation.choice import Choice
    from rapbench.model import Model

N = 500  # inputs of a data set of files, as in the paper
GALLERY = 4  # inputs that a report shows with their heatmaps
MOST = 2**63 - 1  # of a setting that is a number: torch takes seeds of 64 bits
FEWEST_FOR_PATTERNS = 50  # images: from fewer, a unit is too seldom active for its pattern to be any direction
Loader = Callable[["torch.device"], "Model"]


@dataclass(frozen=True)
class Spec:
    """seed: of all draws. heatmaps: the number format in which they are kept, None for not at all. gallery: images."""

    seed: int = 0
    precision: Precision = Precision.fp32
    heatmaps: str | None = None
    gallery: int = 0


@dataclass(frozen=True)
class SubsetSpec:
    """Which inputs of a data set are evaluated.

    Parameters
    ----------
    n : int, or None
        Drawn among those that the model classifies correctly. None: all of inputs in memory, of others 500.
    seed : int
        Of the draw.
    manifest : path, or None
        A manifest of the inputs; nothing is drawn then.
    require : sequence of Loader
        Further models that have to classify each drawn input correctly.
    """

    n: int | None = None
    seed: int = 0
    manifest: Path | None = None
    require: Sequence[Loader] = ()

    def is_whole(self, dataset: "Dataset") -> bool:
        """Whether all of a data set is evaluated, and nothing is drawn."""
        return self.n is None and self.manifest is None and dataset.shape is not None


@dataclass(frozen=True, kw_only=True)
class RunSpec(Spec):
    """A whole run.

    Parameters
    ----------
    model : Loader
        Returns the model on a device.
    data : function
        Returns the data set.
    methods, protocols : sequence of Choice
    store : path
        The folder in which results are kept.
    subset : SubsetSpec
    device : str
        auto, cpu, cuda, ...
    chunk, batch : int, or None
        Inputs attributed together, and perturbed inputs in one pass; None: chosen by the device.
    shard : Shard
    optional : collection of str
        The labels of methods that need not work on the model: the others' results are whole without theirs.
    pattern_images : int, or None
        Images outside the subset from which patterns are estimated where there are none. None: they are not.
    """

    model: Loader = field(repr=False)
    data: "Callable[[], Dataset]" = field(repr=False)
    methods: "Sequence[Choice]"
    protocols: "Sequence[Choice]"
    store: Path
    subset: SubsetSpec = SubsetSpec()
    device: str = "auto"
    chunk: int | None = None
    batch: int | None = None
    shard: Shard = field(default_factory=Shard)
    optional: Collection[str] = ()
    pattern_images: int | None = None
