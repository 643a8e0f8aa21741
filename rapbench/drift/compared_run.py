"""A run's results image by image, with all that says whether two runs can be compared."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rapbench.core.errors import RapbenchError
from rapbench.data.subset.manifest import load_manifest
from rapbench.protocols.base.metric import Metric
from rapbench.results.display import k_number
from rapbench.results.file import NAME, read
from rapbench.results.layouts import REGIONS, layout_of
from rapbench.results.provenance import FILE, provenance_of

CELL = ["method", "protocol", "sign", "k"]
KEYS = [*CELL, "image"]
# What is compared, and how: a `number` within digits, a `count` exactly, a `class` by how many images have another one.
# These columns are there in every baseline; those of other protocols' metrics stand behind them.
VALUES = {"selected": "count", "predicted": "class", "logit": "number", "distance": "number"}
KINDS = {"mean": "number", "count": "count", "share": "class"}  # of a metric's kind
NEEDS = ("config", "model", "machine", "versions", "seeds", "methods", "protocols")  # of provenance.json
NAMES = {"input": "image", "variant": "sign"}
# Of the identity, what moves results by their rounding alone.
ROUNDING = ("chunk",)


@dataclass(frozen=True)
class ComparedRun:
    """A run, or a baseline made of one.

    values: a column per metric, those of VALUES first, float64 with float32's digits, NaN where a protocol has none;
    indexed by KEYS, sorted. kinds: how each column is compared, see VALUES. identity: what must be the same. images:
    file -> {label, sha256}. platform: where the last digits come from. code: hashes of the methods' and protocols'
    code, the model's and the evaluation's. tolerances: as `tolerances.derive` returns them; None where none are stated.
    """

    source: str
    identity: dict[str, Any]
    images: dict[str, dict[str, Any]]
    platform: dict[str, Any]
    values: pd.DataFrame
    versions: dict[str, str] = field(default_factory=dict)
    code: dict[str, str] = field(default_factory=dict)
    tolerances: pd.DataFrame | None = None
    perturbed: tuple[dict[str, Any], ...] = ()
    kinds: dict[str, str] = field(default_factory=lambda: dict(VALUES))

    @property
    def labels(self) -> dict[str, int]:
        """The images' labels."""
        return {file: image["label"] for file, image in self.images.items()}


def read_run(folder: Path) -> ComparedRun:
    """Read a run's folder. Raises RapbenchError when it is none, or holds no results."""
    whole = f"{folder} is not the folder of a whole run"
    name_it = "name the one that it wrote, such as results/table1/resnet50_keras"
    if not folder.is_dir():
        raise RapbenchError(f"{whole} (there is no such folder); {name_it}")
    try:
        provenance = provenance_of(folder, NEEDS)
        rows = load_manifest(folder / "manifest.csv").rows
        identity, platform = _identity(provenance), _platform(provenance)
        choices = provenance["methods"] | provenance["protocols"]
        code = {label: str(choice["code"]) for label, choice in choices.items()} | provenance.get("code", {})
        run = read(folder / NAME) if (folder / NAME).exists() else None
    except (KeyError, TypeError, AttributeError) as error:
        missing = f"its {FILE} lacks {error}" if isinstance(error, KeyError) else f"its {FILE} has another layout"
        raise RapbenchError(f"{whole} ({missing}); {name_it}") from error
    except RapbenchError as error:
        raise RapbenchError(f"{whole}: {error}") from error
    if run is None or not run.tables:
        raise RapbenchError(f"{folder} holds no {NAME}: nothing that could drift")
    kinds = dict(VALUES)
    frames = []
    for label, table in run.tables.items():
        info = run.protocols[label]
        # Of regions f stands in one column, whether it is a logit or a probability.
        names = NAMES | ({"probability": "logit"} if layout_of(info) == REGIONS else {})
        columns = _compared([names.get(metric.name, metric.name) for metric in info.metrics], info.metrics)
        kinds |= {name: kind for name, kind in columns.items() if name not in kinds}
        frames.append(table.rename(columns=names).assign(protocol=label)[[*KEYS, *columns]])
    values = in_order(pd.concat(frames), list(kinds))
    if values.index.has_duplicates:
        raise RapbenchError(f"{folder} holds {' '.join(values.index[values.index.duplicated()][0])} twice; run again")
    images = {row.file: {"label": row.label, "sha256": row.sha256} for row in rows}
    return ComparedRun(str(folder), identity, images, platform, values, provenance["versions"], code, kinds=kinds)


def in_order(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Return columns of a frame that has KEYS too, indexed by KEYS in an order that depends on nothing else."""
    frame = frame.reset_index(drop=True).reindex(columns=[*KEYS, *columns])
    ranks = frame["k"].map(k_number)
    frame = frame.assign(rank=ranks).sort_values([*CELL[:3], "rank", "image"]).drop(columns="rank").set_index(KEYS)
    return frame.astype(np.float32).astype(np.float64)


def _compared(names: Sequence[str], metrics: Sequence[Metric]) -> dict[str, str]:
    """Return the columns of a protocol and how each is compared; accuracy follows from what is predicted."""
    kinds = {name: KINDS[metric.kind] for name, metric in zip(names, metrics, strict=True)}
    if "predicted" in kinds:
        kinds = {name: kind for name, kind in kinds.items() if name != "accuracy"}
    return {name: VALUES.get(name, kind) for name, kind in kinds.items()}


def _identity(provenance: dict[str, Any]) -> dict[str, Any]:
    """What a result depends on, but for the code and the platform: what they do to it is what is looked for."""
    config = provenance["config"]
    elsewhere = ("root", "labels_file", "boxes", "masks", "summary")
    return {
        "experiment": config["name"],
        "model": config["model"]["name"],
        "weights_sha256": provenance["model"]["weights_sha256"],
        "preprocessing": provenance["model"]["preprocessing"],
        "data": {key: value for key, value in config["data"].items() if key not in elsewhere},
        "seed": provenance["seeds"]["run"],
        "precision": config["precision"],
        "heatmaps": "float16" if config["heatmaps"] == "float16" else "float32",
        "chunk": config["chunk"],
        "methods": _choices(provenance["methods"]),
        "protocols": _choices(provenance["protocols"]),
    }


def _choices(section: dict[str, Any]) -> dict[str, Any]:
    return {label: {key: value for key, value in choice.items() if key != "code"} for label, choice in section.items()}


def _platform(provenance: dict[str, Any]) -> dict[str, Any]:
    kind = {key: value for key, value in provenance["machine"].items() if key != "torch_threads"}
    return kind | {"torch": provenance["versions"]["torch"], "batch": provenance["config"]["batch"]}
