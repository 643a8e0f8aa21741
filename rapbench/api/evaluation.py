"""`rapbench.evaluate`: attribution methods through evaluation protocols, from Python."""

import functools
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset as TorchDataset

from rapbench.api.results import Results
from rapbench.core.errors import RapbenchError
from rapbench.core.memory_format import placed
from rapbench.core.paths import check_folder
from rapbench.core.precision import Precision
from rapbench.core.tensors import what_is
from rapbench.core.tolerance import full_precision
from rapbench.data import load_data
from rapbench.data.labelled.dataset import Dataset
from rapbench.evaluation.arguments import given_methods, given_protocols
from rapbench.evaluation.choice import Choice
from rapbench.evaluation.description import described
from rapbench.evaluation.gallery import gallery_of
from rapbench.evaluation.memory import compute
from rapbench.evaluation.preparation import prepared
from rapbench.evaluation.provenance import provenance_of_job
from rapbench.evaluation.run_spec import GALLERY, MOST, RunSpec, SubsetSpec
from rapbench.heatmaps import Heatmaps
from rapbench.model import Model
from rapbench.zoo import load_model


@full_precision()
def evaluate(
    model: Model | nn.Module | str,
    inputs: Any,
    labels: Any = None,
    *,
    methods: Any = ("rap", "random"),
    protocols: Any = ("removal", "distance"),
    heatmaps: Mapping[str, Any] | None = None,
    n: int | None = None,
    seed: int = 0,
    chunk: int | None = None,
    batch: int | None = None,
    device: str = "auto",
    precision: str = "fp32",
    gallery: int = GALLERY,
    store: str | Path | None = None,
) -> Results:
    """Evaluate attribution methods by protocols.

    Parameters
    ----------
    model : Model, nn.Module or str
        A network with its preprocessing; any module, which is copied, for preprocessed inputs; or a name that
        `load_model` takes.
    inputs : Tensor or array, (N, C, *space); Dataset, torch Dataset or str
        Preprocessed inputs; a data set; or a name that `load_data` takes.
    labels : Tensor, array or list of N, optional
        Class indices of tensors. By default the model's predictions are the labels.
    methods : list or mapping
        Names, functions of (model, inputs, targets), or either with its options: ("smoothgrad", {"samples": 10}). A
        mapping gives each a label.
    protocols : list or mapping
        Names, subclasses of `Protocol` or instances, with options and labels in the same way.
    heatmaps : mapping of str to Tensor or path, optional
        Ready-made heatmaps by label, (N, *space) or (N, C, *space) in the order of the inputs, or files of them, see
        `Heatmaps`.
    n : int, optional
        Evaluate this many inputs that the model classifies correctly, selected by the seed. By default all tensors, or
        500 images of a data set of files.
    seed : int
        Seeds all random numbers.
    chunk, batch : int, optional
        Inputs that are attributed together, and perturbed inputs in one forward pass. The default depends on the
        device.
    device : str
        auto, cpu, cuda, cuda:1, ...
    precision : {"fp32", "bf16"}
        Precision of the forward passes of perturbed inputs.
    gallery : int
        How many inputs the page shows with every method's heatmaps, from the first on.
    store : path, optional
        A folder that stores results, so that the same call resumes after an interruption. By default nothing is stored.

    Returns
    -------
    Results

    Raises
    ------
    RapbenchError
        For whatever cannot be evaluated, in one line. A method that fails is skipped, and
        `results.runs[0].about["refused"]` holds the reason. If all methods fail, the error is raised.

    Examples
    --------
    >>> results = rapbench.evaluate(network, images, labels, methods=["rap", "integrated_gradients", "random"])
    >>> results.table()
    >>> results.report("out")
    """
    started, clock = datetime.now(UTC), time.monotonic()
    chosen = given_methods(methods)
    if heatmaps is not None:
        chosen += _ready_made(heatmaps, chosen)
    asked = given_protocols(protocols)
    for choice in asked:
        _ = choice.protocol  # which checks its options together
    _check_store(store)
    settings: dict[str, Any] = {
        "seed": _whole("seed", seed, 0),
        "precision": _precision(precision),
        "gallery": _whole("gallery", gallery, 0),
        "device": device,
        "chunk": chunk if chunk is None else _whole("chunk", chunk, 1),
        "batch": batch if batch is None else _whole("batch", batch, 1),
        "subset": SubsetSpec(n if n is None else _whole("n", n, 1), seed),
    }
    with ExitStack() as stack:
        kept = Path(store) if store is not None else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        spec = RunSpec(
            model=functools.partial(_model, model),
            data=functools.partial(_dataset, inputs, labels),
            methods=chosen,
            protocols=asked,
            store=kept,
            **settings,
        )
        job, refused = compute(*prepared(spec))
        run = replace(job.results(), shown=gallery_of(job, refused))
    about = described(job, spec, refused)._asdict() | provenance_of_job(job, refused, started, time.monotonic() - clock)
    return Results([replace(run, about=about)])


def _model(given: Any, device: torch.device) -> Model:
    if isinstance(given, str):
        model = load_model(given)
    elif isinstance(given, Model):
        model = given.apart()
    else:
        model = Model(given)
    return placed(model, device)


def _ready_made(heatmaps: Any, others: Sequence[Choice]) -> list[Choice]:
    if not isinstance(heatmaps, Mapping):
        what = "heatmaps= must be a mapping of labels to tensors or files: heatmaps={'theirs': maps}"
        raise RapbenchError(f"{what}, got {what_is(heatmaps)}")
    found = given_methods({label: Heatmaps(source) for label, source in heatmaps.items()}) if heatmaps else []
    if twice := {choice.label for choice in others} & {choice.label for choice in found}:
        raise RapbenchError(f"a method and heatmaps are both called {min(twice)!r}; give one another label")
    return found


def _check_store(store: Any) -> None:
    if store is None:
        return
    if not isinstance(store, (str, Path)):
        raise RapbenchError(f"store= must be a path, got {what_is(store)}")
    check_folder(str(store), "store", read=Path(store).is_dir())


def _dataset(inputs: Any, labels: Any) -> Dataset:
    named = isinstance(inputs, (str, Dataset, TorchDataset))
    if named and labels is not None:
        raise RapbenchError("labels= is for tensors; a data set has its own")
    if isinstance(inputs, str):
        return load_data(inputs)
    if isinstance(inputs, Dataset):
        return inputs
    return Dataset.from_torch(inputs) if named else Dataset.from_tensors(inputs, labels)


def _precision(name: str) -> Precision:
    try:
        return Precision(name)
    except ValueError:
        raise RapbenchError(f"precision={name!r}; known: {', '.join(each.value for each in Precision)}") from None


def _whole(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST:
        raise RapbenchError(f"{name}={value!r:.60} must be a whole number of 64 bits, {least} or more")
    return value
