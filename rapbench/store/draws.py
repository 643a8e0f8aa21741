"""What models say of images in the order of a draw, kept batch by batch, broken images too."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from rapbench.data.labelled.dataset import Dataset, Sample
from rapbench.data.subset.predictions import Verdict
from rapbench.data.subset.select import Order
from rapbench.model import Model
from rapbench.store.contents import DRAWS, check_place, digest_of, draw_bytes, draw_label
from rapbench.store.sealed import Damaged, chunk_name, chunks_in, read_sealed, set_aside, write_sealed


@dataclass(frozen=True)
class Draws:
    """Where verdicts are kept. key: of a model, of its code and of the machine, what determines them."""

    store: Path
    key: Callable[[Model], dict[str, Any]]

    def __call__(self, model: Model, order: Order) -> "KeptVerdicts":
        """Return what is kept of a model's verdicts in an order."""
        key = self.key(model) | {"data": order.data, "seed": order.seed, "batch": order.size}
        return KeptVerdicts(self.store, key, order.count)


class KeptVerdicts:
    """The verdicts of one model in one order of the images."""

    def __init__(self, store: Path, key: dict[str, Any], count: int):
        self.store, self.key = store, key
        self.folder = store / DRAWS / digest_of(key)
        self.paths: dict[int, list[Path]] = defaultdict(list)  # of a batch several, where images have changed
        for number, path in chunks_in(self.folder, store, count):
            self.paths[number].append(path)

    def read(self, number: int, samples: list[Sample], dataset: Dataset) -> list[Verdict] | None:
        """Return the verdicts of a batch, unless they are not there or an image has changed since."""
        wanted = [(sample.file, sample.label) for sample in samples]
        for path in self.paths[number]:
            try:
                label = draw_label(read_sealed(path))
                check_place(label, path.parent.name, number)
                verdicts = [Verdict(*values) for values in label["verdicts"]]
                if [(verdict.file, verdict.label) for verdict in verdicts] != wanted:
                    raise Damaged("it is of other images")
            except FileNotFoundError:
                continue
            except Damaged as reason:
                set_aside(path, self.store, reason)
                continue
            if all(verdict.sha256 == _hash(dataset, verdict.file) for verdict in verdicts):
                return verdicts
        return None

    def write(self, number: int, verdicts: list[Verdict]) -> None:
        """Keep the verdicts of a batch."""
        held = draw_bytes(self.key, number, [astuple(verdict) for verdict in verdicts])
        write_sealed(self.folder, chunk_name(number), "json", held)


def _hash(dataset: Dataset, file: str) -> str:
    try:
        return dataset.sha256(file)
    except OSError:
        return ""
