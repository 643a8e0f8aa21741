"""What the benchmarks share: ratios of times within one run, peaks of memory, and a batch of real images."""

import statistics
import sys
import time
from collections.abc import Callable

import torch
import yaml
from PIL import Image
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from rapbench import load_model
from rapbench.core.paths import resource
from rapbench.data.samples import samples
from rapbench.model import Model

Call = Callable[[], object]


def passes(call: Call, forward: Call, repeats: int) -> float:
    """Return how many forward passes a call costs: both warmed up, timed in turns, medians compared."""
    times: dict[Call, list[float]] = {forward: [], call: []}
    for repeat in range(repeats + 1):
        for function, found in times.items():
            start = time.perf_counter()
            function()
            if repeat:
                found.append(time.perf_counter() - start)
    return statistics.median(times[call]) / statistics.median(times[forward])


def peak_bytes(call: Call) -> int:
    """Return the most memory that a call had allocated on the CPU at one time."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        call()
    assert found.profiler is not None
    assert found.profiler.kineto_results is not None
    events = [event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def table1_methods() -> list[str]:
    """Return the methods of Table I."""
    defaults = yaml.safe_load(resource("configs", "experiment/table1.yaml").read_text(encoding="utf-8"))["defaults"]
    return next(default["override /method"] for default in defaults if "override /method" in default)


def real_batch(size: int) -> tuple[Model, Tensor, Tensor]:
    """Return the model that the command line names (resnet50_keras), and embedded images with their labels."""
    model = load_model(sys.argv[1] if len(sys.argv) > 1 else "resnet50_keras").to(memory_format=torch.channels_last)
    dataset = samples()
    chosen = dataset.samples[:size]
    images = torch.stack([model.transform(Image.open(dataset.root / sample.file)) for sample in chosen])
    labels = torch.tensor([sample.label for sample in chosen])
    return model, images.contiguous(memory_format=torch.channels_last), labels
