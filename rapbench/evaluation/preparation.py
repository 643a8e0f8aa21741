"""From what a run is asked for to its job: everything loaded, drawn and checked against each other."""

from collections.abc import Callable

import torch

from rapbench.core.device import default_batch, default_chunk, device_called
from rapbench.data.labelled.dataset import Dataset
from rapbench.data.subset.manifest import Row, Subset, load_manifest
from rapbench.data.subset.whole import whole_subset
from rapbench.evaluation.absent import Absent
from rapbench.evaluation.choice import Choice
from rapbench.evaluation.compatible import check_classes, check_subset, logits_of
from rapbench.evaluation.draw import drawn
from rapbench.evaluation.held_out import takes_patterns, with_held_out, with_patterns
from rapbench.evaluation.identity import model_key
from rapbench.evaluation.input_shape import input_shape
from rapbench.evaluation.job import Job, Size
from rapbench.evaluation.k_limits import within
from rapbench.evaluation.labels import check_labels, check_measures
from rapbench.evaluation.masks import Masks, check_masks, needing_masks, with_masks
from rapbench.evaluation.run_spec import N, RunSpec
from rapbench.evaluation.selection import check_ready, check_space, matched, with_files
from rapbench.methods import methods as METHODS
from rapbench.model import Model
from rapbench.patterns.file import NoPatterns
from rapbench.protocols import protocols as PROTOCOLS


def prepared(spec: RunSpec) -> tuple[Callable[[Size], Job], Size]:
    """Load what a run is asked for; return how its job is made, and its size.

    Raises RapbenchError for whatever cannot be evaluated, before anything long is begun.
    """
    check_labels(METHODS, spec.methods)
    check_labels(PROTOCOLS, spec.protocols)
    check_measures(spec.protocols)
    check_ready(spec.methods)
    device = device_called(spec.device)
    size = Size(spec.chunk or default_chunk(device), spec.batch or default_batch(device))
    dataset = spec.data()
    check_masks(spec.protocols, dataset)
    model = spec.model(device)
    space = input_shape(model, dataset)[1:]
    protocols = within(spec.protocols, space)
    check_space(protocols, space, model)
    absent = Absent(spec.optional)
    methods = absent.without(spec.methods, lambda choice: _with_files(choice, model, spec))
    subset = _subset(spec, model, dataset, device)
    evaluated = {row.file for row in subset.rows}
    methods = absent.without(methods, lambda choice: _with_patterns(choice, model, dataset, evaluated, spec, device))
    order = _order(dataset)
    methods = [matched(choice, subset.rows, space, order) for choice in methods]
    masks = Masks(dataset, tuple(space), subset.rows, model.transform) if needing_masks(protocols) else None
    protocols = with_masks(protocols, masks) if masks else protocols

    def job_of(size: Size) -> Job:
        return Job(spec, model, dataset, subset, device, spec.store, methods, protocols, spec.shard, size, masks,
                   absent)  # fmt: skip

    return job_of, size


def _with_files(choice: Choice, model: Model, spec: RunSpec) -> Choice:
    """Return a choice with its files; as it is where it lacks patterns that will be estimated."""
    try:
        return with_patterns(choice, model) if takes_patterns(choice) else with_files(choice, model)
    except NoPatterns:
        if spec.pattern_images is None:
            raise
        return choice


def _with_patterns(
    choice: Choice, model: Model, dataset: Dataset, evaluated: set[str], spec: RunSpec, device: torch.device
) -> Choice:
    if not takes_patterns(choice) or choice.files or spec.pattern_images is None:
        return choice
    return with_held_out(choice, model, dataset, evaluated, spec.pattern_images, spec.subset.seed, device)


def _subset(spec: RunSpec, model: Model, dataset: Dataset, device: torch.device) -> Subset:
    wanted = spec.subset
    manifest = load_manifest(wanted.manifest) if wanted.manifest else None
    required = [] if manifest else [load(device) for load in wanted.require]
    others = [other for other in required if model_key(other) != model_key(model)]
    counts = [(each.facts.name, logits_of(each, input_shape(each, dataset), device)) for each in (model, *others)]
    check_classes(counts, dataset)
    if manifest:
        subset = manifest
    elif wanted.is_whole(dataset):
        subset = whole_subset(model, dataset, device)
    else:
        subset = drawn([model, *others], dataset, wanted.n or N, wanted.seed, device, spec.store)
    check_subset(model, counts[0][1], subset)
    return subset


def _order(dataset: Dataset) -> list[Row] | None:
    """Return the inputs in the order of a stack of heatmaps: of tensors that of the data, else the subset's (None)."""
    if dataset.shape is None:
        return None
    return [Row(it.file, it.label, dataset.sha256(it.file), 0.0, "", "") for it in dataset.samples]
