"""Ready-made heatmaps in a method's place: `heatmaps:FOLDER` or `heatmaps:FILE`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.core.signs import Sign
from rapbench.heatmaps import Heatmaps, Matched
from rapbench.methods import methods
from rapbench.methods.adapters.facts import MethodFacts
from rapbench.registry import Entry

if TYPE_CHECKING:
    from rapbench.heatmaps.matching import Row

PREFIX = "heatmaps"


@dataclass(frozen=True)
class ReadyMade(Entry[MethodFacts]):
    """An entry whose heatmaps are read. matched: those of a run's images, once these are known."""

    source: Heatmaps
    matched: Matched | None = None

    @property
    def label(self) -> str:
        """The folder's or file's name, without its ending."""
        return self.source.label

    @classmethod
    def of(cls, source: Heatmaps) -> "ReadyMade":
        """Return the entry for heatmaps, which cost no pass of the model."""
        name = f"{PREFIX}:{source.source}" if isinstance(source.source, str) else PREFIX
        return cls("method", name, heatmaps, MethodFacts(passes=0), source)

    def match(
        self,
        rows: "Sequence[Row]",
        space: Sequence[int],
        signs: Sequence[Sign] | None,
        order: "Sequence[Row] | None" = None,
    ) -> "ReadyMade":
        """Return the entry with the heatmaps of a run's images; it is known by their content, wherever they lie.

        signs: those to evaluate, None for those that the source states or has. The rest as of `Heatmaps.match`.
        """
        source = Heatmaps(self.source.source, signs=self.source.signs if signs is None else signs)
        matched = source.match(rows, space, order)
        facts = replace(self.facts, signs=matched.signs)
        return replace(self, name=PREFIX, facts=facts, source=source, matched=matched)


def heatmaps(model: nn.Module, inputs: Tensor, targets: Tensor, *, signs: list[Sign] | None = None) -> Tensor:
    """Heatmaps that others computed: a folder, or a .npy, .safetensors or .pt file, matched to a run's images.

    signs: those that are evaluated; by default those that any of the heatmaps has.
    """
    raise RapbenchError("ready-made heatmaps belong to the images of a run; name them in `rapbench run`")


methods.prefix(PREFIX, lambda name: ReadyMade.of(Heatmaps(name.partition(":")[2])))
