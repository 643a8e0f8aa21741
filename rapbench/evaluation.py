"""`rapbench.evaluate`: attribution methods through evaluation protocols, from Python."""

import copy
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset as TorchDataset

from rapbench.data import load_data
from rapbench.data._dataset import Dataset
from rapbench.data._whole import whole_subset
from rapbench.errors import RapbenchError
from rapbench.heatmaps import Heatmaps
from rapbench.layout import placed
from rapbench.methods import methods as METHODS
from rapbench.model import Model
from rapbench.precision import Precision
from rapbench.protocols import protocols as PROTOCOLS
from rapbench.results.results import Results
from rapbench.runner.choice import check_space, matched, with_files
from rapbench.runner.compatible import check_classes, check_subset, logits_of
from rapbench.runner.device import default_batch, default_chunk, device_called
from rapbench.runner.draw import drawn
from rapbench.runner.given import given_methods, given_protocols
from rapbench.runner.input_shape import input_shape
from rapbench.runner.job import Job, Size
from rapbench.runner.k_limits import within
from rapbench.runner.labels import check_labels
from rapbench.runner.memory import compute
from rapbench.runner.provenance import provenance_of_job
from rapbench.runner.shard import Shard
from rapbench.runner.spec import Spec
from rapbench.zoo import load_model

N = 500  # images of a data set of files


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
    store: str | Path | None = None,
) -> Results:
    """Put attribution methods through evaluation protocols.

    Parameters
    ----------
    model : Model, nn.Module or str
        A network with its preprocessing; any module, which is copied, for inputs that are preprocessed already; or a
        name that `load_model` takes.
    inputs : Tensor or array, (N, C, *space); Dataset, torch Dataset or str
        Preprocessed inputs; a data set; or a name that `load_data` takes.
    labels : Tensor, array or list of N, optional
        Class indices of such tensors. Without them what the model predicts is the label.
    methods : list or mapping
        Names, functions of (model, inputs, targets), or either with its options: ("smoothgrad", {"samples": 10}). A
        mapping gives each a label.
    protocols : list or mapping
        Names, subclasses of Protocol or instances, likewise.
    heatmaps : mapping of str to Tensor or path, optional
        Ready-made heatmaps by label, (N, *space) or (N, C, *space), or files of them, see `Heatmaps`.
    n : int, optional
        Evaluate this many inputs that the model classifies correctly, drawn by the seed. By default all that are
        given, of a data set of files 500.
    seed : int
        Of all draws.
    chunk, batch : int, optional
        Inputs that are attributed together; perturbed inputs in one forward pass. By default chosen by the device.
    device : str
        auto, cpu, cuda, cuda:1, ...
    precision : {"fp32", "bf16"}
        Of the forward passes of perturbed inputs.
    store : path, optional
        A folder that keeps what is computed: the same call goes on where it was stopped. By default nothing is kept.

    Returns
    -------
    Results

    Raises
    ------
    RapbenchError
        For whatever cannot be evaluated, in one line. A method that fails is skipped and named in
        `results.runs[0].about["refused"]`; where all fail, that is raised.

    Examples
    --------
    >>> results = rapbench.evaluate(network, images, labels, methods=["rap", "integrated_gradients", "random"])
    >>> results.table()
    >>> results.report("out")
    """
    started, clock = datetime.now(UTC), time.monotonic()
    chosen = given_methods(methods)
    if heatmaps:
        chosen += given_methods({label: Heatmaps(source) for label, source in heatmaps.items()})
    asked = given_protocols(protocols)
    for choice in asked:
        _ = choice.protocol  # which checks its options together
    check_labels(METHODS, chosen)
    check_labels(PROTOCOLS, asked)
    spec = Spec(seed=_whole("seed", seed, 0), precision=_precision(precision))
    place = device_called(device)
    network, dataset = _model(model, place), _dataset(inputs, labels)
    shape = input_shape(network, dataset)
    asked = within(asked, shape[1:])
    check_space(asked, shape[1:], network)
    classes = logits_of(network, shape, place)
    check_classes([(network.facts.name, classes)], dataset)
    chosen = [with_files(choice, network) for choice in chosen]
    with ExitStack() as stack:
        kept = Path(store) if store is not None else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if n is None and dataset.shape is not None:
            subset = whole_subset(network, dataset, place)
        else:
            subset = drawn([network], dataset, N if n is None else _whole("n", n, 1), seed, place, kept)
        check_subset(network, classes, subset)
        chosen = [matched(choice, subset.rows, shape[1:]) for choice in chosen]

        def job_of(size: Size) -> Job:
            return Job(spec, network, dataset, subset, place, kept, chosen, asked, Shard.called(None), size)

        size = Size(
            _whole("chunk", default_chunk(place) if chunk is None else chunk, 1),
            _whole("batch", default_batch(place) if batch is None else batch, 1),
        )
        job, refused = compute(job_of, size)
        if refused.keys() == job.methods.keys():
            raise RapbenchError("; ".join(f"{label}: {reason}" for label, reason in refused.items()))
        run = job.results()
    facts = network.facts
    header = [f"{facts.name}: {facts.architecture}, weights from {facts.source}.",
              f"n = {len(subset.rows)} of {dataset.description}."]  # fmt: skip
    about = {"header": header} | provenance_of_job(job, refused, started, time.monotonic() - clock)
    return Results([replace(run, about=about, subset=subset)])


def _model(given: Any, device: torch.device) -> Model:
    if isinstance(given, str):
        model = load_model(given)
    elif isinstance(given, Model):
        model = copy.deepcopy(given)  # which may be laid out otherwise, or go to another device
    else:
        model = Model(given)
    return placed(model, device)


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
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise RapbenchError(f"{name}={value!r} must be a whole number, {least} or more")
    return value
