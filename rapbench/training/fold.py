"""A fold of a cross-validation: trained, or found finished; its weights and its predictions in a folder of its own."""

import copy
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from rapbench.core.errors import RapbenchError
from rapbench.core.extras import needed
from rapbench.core.files import file_hash, remove_leftovers, write_whole
from rapbench.core.memory_format import channels_last, placed
from rapbench.core.reading import read_json
from rapbench.core.spreadsheet import csv_text
from rapbench.data.ct.folds import Scheme, balanced, split
from rapbench.evaluation.identity import model_key
from rapbench.fingerprint import code_of
from rapbench.model import Model
from rapbench.store.claim import Claim
from rapbench.store.contents import digest_of
from rapbench.training.augmentation import Augmentation
from rapbench.training.epoch import Indices, epoch_items, training_labels
from rapbench.training.samples import Candidates, Plans
from rapbench.training.settings import BESIDE, Labels, TrainingSettings

if TYPE_CHECKING:
    from rapbench.data.ct.cubes import Cubes

WEIGHTS, PREDICTIONS, RECORD, LOCK = "model.safetensors", "predictions.csv", "fold.json", "fold.lock"
CHECKPOINT = "last.ckpt"
CLASSES = 2


@dataclass(frozen=True)
class CrossValidation:
    """How the candidates are divided.

    folds, scheme, seed: as `rapbench.data.ct.folds.split` takes them. share: of nodules where the network is validated
    and tested; None: the natural ratio.
    """

    folds: int = 10
    scheme: Scheme = "random"
    share: float | None = 0.28
    seed: int = 0


@dataclass(frozen=True)
class Study:
    """What all folds have in common.

    Parameters
    ----------
    cubes : Cubes
        Every candidate.
    model : Model
        Its weights are those that training begins with; it is not changed.
    cross : CrossValidation
    settings : TrainingSettings
    seed : int
        Of order, augmentation, dropout, and of shuffled labels.
    device : torch.device
    """

    cubes: "Cubes"
    model: Model
    cross: CrossValidation
    settings: TrainingSettings
    seed: int
    device: torch.device

    def key(self) -> dict[str, Any]:
        """Return what the weights of a fold depend on, beside its number."""
        own = {name: value.name if isinstance(value, Enum) else value
               for name, value in dataclasses.asdict(self.settings).items() if name not in BESIDE}  # fmt: skip
        code = code_of(train_fold, type(self.cubes))
        return {
            "data": {"name": self.cubes.name, "identity": self.cubes.identity, "window": list(self.cubes.window)},
            "folds": dataclasses.asdict(self.cross),
            "model": model_key(self.model),
            "training": own | {"seed": self.seed, "device": self.device.type},
            "code": code.sha256,
            "versions": code.versions,
        }


def train_fold(study: Study, number: int, folder: Path) -> dict[str, Any]:
    """Train one fold, and return its record; one that is finished in the folder, of the same, is not trained again.

    Written are `model.safetensors`, the weights of the epoch with the lowest validation loss; `predictions.csv`, the
    test part's candidates with label and probability of a nodule; and `fold.json`, the record. A fold that was stopped
    goes on after its last whole epoch, to the same weights.

    Raises RapbenchError for settings or data that cannot be trained with, and where another process trains the fold.
    """
    key = study.key() | {"fold": number}
    if (found := finished(folder, digest_of(key))) is not None:
        return _with_all(study, found, folder, number)
    with _claimed(folder, number):
        remove_leftovers(folder)
        weights, history = _trained(study, number, folder, digest_of(key))
        network = copy.deepcopy(study.model.network)
        network.load_state_dict(weights)
        write_whole(folder / WEIGHTS, save(weights))
        table = _predicted(study, network, number)
        write_whole(folder / PREDICTIONS, csv_text(table).encode())
        best = min(range(len(history)), key=lambda epoch: history[epoch]["val_loss"])
        record = {
            "fold": number,
            "digest": digest_of(key),
            "study": digest_of(study.key()),
            "epochs": len(history),
            "best_epoch": best + 1,
            "history": history,
            "natural": study.settings.natural,
            "files": {name: file_hash(folder / name) for name in (WEIGHTS, PREDICTIONS)},
            "key": key,
        }
        write_whole(folder / RECORD, json.dumps(record, indent=1).encode())
        (folder / CHECKPOINT).unlink(missing_ok=True)
    return record


def finished(folder: Path, digest: str) -> dict[str, Any] | None:
    """Return the record of a finished fold with this digest, if its files are as they were written."""
    record = record_of(folder)
    return record if record is not None and record["digest"] == digest else None


def record_of(folder: Path) -> dict[str, Any] | None:
    """Return the record of a folder in which a finished fold lies as it was written; None for any other."""
    try:
        record: dict[str, Any] = read_json(folder / RECORD, dict[str, Any])
        whole = all(file_hash(folder / name) == hash for name, hash in record["files"].items())
        return record if whole and {"digest", "study", "fold"} <= record.keys() else None
    except (RapbenchError, OSError, KeyError, AttributeError):
        return None


def _with_all(study: Study, record: dict[str, Any], folder: Path, number: int) -> dict[str, Any]:
    """Predict the rest of the test part, where that is asked for and was not before."""
    if record["natural"] or not study.settings.natural:
        return record
    from safetensors.torch import load_file

    network = copy.deepcopy(study.model.network)
    network.load_state_dict(load_file(folder / WEIGHTS))
    with _claimed(folder, number):
        write_whole(folder / PREDICTIONS, csv_text(_predicted(study, network, number)).encode())
        record = record | {"natural": True, "files": {n: file_hash(folder / n) for n in (WEIGHTS, PREDICTIONS)}}
        write_whole(folder / RECORD, json.dumps(record, indent=1).encode())
    return record


def _claimed(folder: Path, number: int) -> Claim:
    claim = Claim.of(folder / LOCK)
    if claim is None:
        raise RapbenchError(f"another process trains fold {number} in {folder}; wait for it, or give another output=")
    return claim


def _trained(study: Study, number: int, folder: Path, digest: str) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Return the best weights, and each epoch's numbers."""
    with needed("luna16", "rapbench train"):
        from rapbench.training.lightning import fit
        from rapbench.training.module import Classifier, Epochs
    settings, cubes = study.settings, study.cubes
    path = folder / CHECKPOINT
    state = _resumable(path, digest)
    if state is None:
        path.unlink(missing_ok=True)
    if state is None or not _is_done(state, settings):
        parts = _parts(study, number)
        labels = training_labels(cubes.label, parts, settings.labels is Labels.shuffled, study.seed)
        plans = [epoch_items(parts[0], labels, settings.augmentations, settings.share, study.seed, epoch)
                 for epoch in range(settings.epochs)]  # fmt: skip
        wanted = [np.array([item.candidate for plan in plans for item in plan]), parts[1]]
        cubes.prepare(np.unique(np.concatenate(wanted)))
        changes = {margin: Augmentation(settings, cubes.size, margin) for margin in {0, cubes.margin}}
        samples = Plans(cubes, plans, labels, settings, changes, study.seed)
        network = placed(copy.deepcopy(study.model.network), study.device).train()
        _check_output(network.eval(), cubes)
        module = Classifier(network.train(), settings, study.seed)
        module.digest = digest
        folder.mkdir(parents=True, exist_ok=True)
        data = Epochs(samples, Candidates(cubes, parts[1], labels), settings)
        fit(module, data, settings, study.device, path, f"{cubes.name} · fold {number}")
        state = _resumable(path, digest)
    assert state is not None
    if not state["weights"] or not all(np.isfinite(epoch["val_loss"]) for epoch in state["history"]):
        raise RapbenchError(
            f"fold {number}: the loss is no number any more; try a smaller training.learning_rate than "
            f"{settings.learning_rate:g}"
        )
    return state["weights"], state["history"]


def _parts(study: Study, number: int) -> tuple[Indices, Indices]:
    """Return what is trained on, and what is validated on."""
    cross = study.cross
    found = split(study.cubes, number, cross.folds, cross.scheme, cross.seed)
    return found.train, balanced(study.cubes, found.validation, cross.share, cross.seed)


def _resumable(path: Path, digest: str) -> dict[str, Any] | None:
    """Return what a checkpoint of the same training says of its epochs; None where there is none."""
    from rapbench.training.lightning import BEST

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        if found["digest"] != digest:
            return None
        waited = [state["wait_count"] for name, state in found["callbacks"].items() if name.startswith("EarlyStopping")]
        return {**found["callbacks"][BEST], "waited": max(waited, default=0)}
    except FileNotFoundError:
        return None
    except Exception:  # cut short, or nobody's: whatever its bytes lead torch's reader to
        return None


def _is_done(state: dict[str, Any], settings: TrainingSettings) -> bool:
    early = settings.patience is not None and state["waited"] >= settings.patience
    return early or len(state["history"]) >= settings.epochs


def _check_output(network: nn.Module, cubes: "Cubes") -> None:
    """Raise RapbenchError unless a network makes two logits of a cube."""
    x = torch.zeros(1, 1, *(cubes.size,) * 3, device=next(network.parameters()).device)
    try:
        with torch.no_grad():
            shape = tuple(network(x).shape)
    except RuntimeError as error:
        raise RapbenchError(f"the model takes no cubes of shape {tuple(x.shape[1:])} ({error!s:.200})") from error
    if shape != (1, CLASSES):
        raise RapbenchError(f"the model makes {shape} of one cube; training needs two logits, other and nodule")


def _predicted(study: Study, network: nn.Module, number: int) -> pd.DataFrame:
    """Return name, label, probability and balanced (1: in the balanced draw) of the test part's candidates."""
    cubes, cross = study.cubes, study.cross
    every = split(cubes, number, cross.folds, cross.scheme, cross.seed).test
    drawn = balanced(cubes, every, cross.share, cross.seed)
    indices = every if study.settings.natural else drawn
    cubes.prepare(indices)
    network = placed(network, study.device).eval()
    return pd.DataFrame(
        {
            "candidate": [cubes.names[int(index)] for index in indices],
            "label": cubes.label[indices].astype(int),
            "probability": probabilities(network, cubes, indices, study.settings.batch, study.device),
            "balanced": np.isin(indices, drawn).astype(int),
        }
    )


def probabilities(
    network: nn.Module, cubes: "Cubes", indices: Sequence[int] | Indices, batch: int, device: torch.device
) -> np.ndarray:
    """Return a network's probability of a nodule in each candidate, (n,) float64 with six decimals."""
    candidates = np.asarray(indices, dtype=np.int64)
    found: list[Tensor] = []
    batches = DataLoader(Candidates(cubes, candidates, cubes.label), batch, generator=torch.Generator())
    with torch.inference_mode(), tqdm(total=len(candidates), desc="test", delay=2, unit="cube", leave=False) as bar:
        for x, _ in batches:
            found.append(network(channels_last(x.to(device))).double().softmax(1)[:, 1].cpu())
            bar.update(len(x))
    return np.round(torch.cat(found).numpy(), 6)
