"""What a GPU does in nine minutes: forward passes, every method, perturbed images, and what Table I would take on it.

Usage: python benchmarks/gpu.py [--device cuda] [--seconds 510] [--networks resnet50 vgg16] [--quick]. Weights and
images are random, as time does not depend on them; nothing is downloaded. Prints a Markdown table for each network as
soon as it is measured. What the time does not suffice for says so; a sum with such a part is not given. fp32 is without
TF32 anywhere, tf32 with it in convolutions and products. --quick, with --device cpu, tries the script out: small
images, one repetition.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from _measure import table1_methods
from tabulate import tabulate
from torch import Tensor, nn

from rapbench import RapbenchError, attribute
from rapbench.core.device import default_batch, default_chunk, device_called
from rapbench.core.limits import out_of_memory
from rapbench.core.memory_format import placed
from rapbench.core.precision import Precision
from rapbench.core.tolerance import full_precision
from rapbench.evaluation.answers import forward_of, table_of
from rapbench.evaluation.identity import processor
from rapbench.methods import methods
from rapbench.protocols import protocols
from rapbench.protocols.base.batch import Batch
from rapbench.zoo import models

CLASSES, SIDE, WHOLE = 1000, 224, 500
SIGNS = ("positive", "negative")
PRECISIONS = {"fp32": Precision.fp32, "tf32": Precision.fp32, "bf16": Precision.bf16}
OPTIONS: dict[str, dict[str, int]] = {
    "regions": {"steps": 10}, "abpc": {"steps": 10}, "sensitivity_n": {"draws": 4}, "infidelity": {"draws": 8},
    "faithfulness_correlation": {"draws": 8}, "deletion": {"steps": 10}, "insertion": {"steps": 10},
    "srg": {"steps": 10},
}  # fmt: skip
ASKING = [name for name in protocols if not protocols[name].function().recomputed()]  # the others cost attributions
SMALL: dict[str, dict[str, Any]] = {
    "abpc": {"size": 4, "steps": 4}, "regions": {"size": 4, "steps": 4},
    "sensitivity_n": {"sizes": [1, "25%", "80%"]},
}  # fmt: skip
TABLE = ("removal", "shuffling", "distance")  # the protocols of Table I
ENOUGH = 5.0  # seconds of repetitions for one number
LATE, NONE = "no time", "-"
Cells = dict[str, dict[str, float | str]]  # row -> precision -> seconds, or why there are none


@dataclass
class Settings:
    """What is measured on, and how much at a time. until: when to stop, of time.monotonic()."""

    device: torch.device
    side: int
    chunk: int
    batch: int
    repeats: int
    until: float

    def left(self) -> float:
        """Return the seconds that are left."""
        return self.until - time.monotonic()


@dataclass
class Found:
    """Seconds an image, by row and precision; and each method's peak of memory, in GiB an image."""

    forward: Cells = field(default_factory=dict)
    perturbed: Cells = field(default_factory=dict)
    methods: Cells = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)


def main() -> None:
    """Measure each network in its share of the time, and print its table."""
    started = time.monotonic()
    given = _arguments()
    if given.device == "cuda" and not torch.cuda.is_available():
        print("no GPU here; --device cpu --quick tries the script out")
        return
    device = device_called(given.device)
    chunk, batch = (2, 4) if given.quick else (default_chunk(device), default_batch(device))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    print(f"# {name}\n\ntorch {torch.__version__}, chunk {chunk}, batch {batch}\n", flush=True)
    for number, network in enumerate(given.networks):
        share = (given.seconds - (time.monotonic() - started)) / (len(given.networks) - number)
        side, repeats = (32, 1) if given.quick else (SIDE, 5)
        settings = Settings(device, side, chunk, batch, repeats, time.monotonic() + share)
        print(table(network, measured(network, settings)), flush=True)


def measured(architecture: str, settings: Settings) -> Found:
    """Return what a network with random weights costs: passes first, then the methods, the quick ones first."""
    torch.manual_seed(0)
    network = placed(models[architecture].facts["build"](CLASSES).eval(), settings.device)
    found = Found()
    generator = torch.Generator().manual_seed(0)
    shape = (max(settings.chunk, settings.batch), 3, settings.side, settings.side)
    images = torch.randn(shape, generator=generator).to(settings.device, memory_format=torch.channels_last)
    for precision in PRECISIONS:
        with computing(precision):
            _passes(network, images, precision, settings, found)
    for precision in ("fp32", "tf32"):
        with computing(precision):
            _methods(network, images[: settings.chunk], precision, settings, found)
    return found


def _passes(network: nn.Module, images: Tensor, precision: str, settings: Settings, found: Found) -> None:
    forward = forward_of(network, PRECISIONS[precision])

    @torch.inference_mode()
    def one() -> object:
        return forward(images[: settings.batch])

    found.forward.setdefault("forward pass", {})[precision] = seconds(one, settings, settings.batch)
    some = images[: settings.chunk]
    with torch.inference_mode():
        clean = forward(some)
        labels = clean.argmax(1)
        maps = torch.randn(len(some), *some.shape[2:], generator=torch.Generator().manual_seed(1)).to(settings.device)
    moments = torch.zeros(3, device=settings.device), torch.ones(3, device=settings.device)
    ids = [str(number) for number in range(len(some))]
    for name in ASKING:
        protocol = protocols[name].function(**OPTIONS.get(name, {}))
        try:
            protocol.check(some.shape[2:])
        except RapbenchError:
            # Of images as small as in --quick.
            protocol = protocols[name].function(**OPTIONS.get(name, {}) | SMALL[name])
        asked = max(protocol.asked(SIGNS) + protocol.asked_once(), 1)

        def job(protocol=protocol) -> object:  # type: ignore[no-untyped-def]
            batch = Batch(some, labels, maps, forward, lambda: clean, ids, 0, moments, settings.batch)
            return table_of(batch, protocol, protocol.variants(SIGNS))

        found.perturbed.setdefault(name, {})[precision] = seconds(job, settings, len(some) * asked)


def _methods(network: nn.Module, images: Tensor, precision: str, settings: Settings, found: Found) -> None:
    with torch.inference_mode():
        labels = network(images).argmax(1).clone()
    one = found.forward["forward pass"][precision]
    for method in sorted(methods, key=lambda method: methods[method].facts.passes):
        passes = methods[method].facts.passes
        expected = one * passes * len(images) if isinstance(one, float) else 0.0
        if settings.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(settings.device)
            before = torch.cuda.memory_allocated(settings.device)
        cost = seconds(lambda method=method: attribute(network, images, labels, method),  # type: ignore[misc]
                       settings, len(images), expected)  # fmt: skip
        found.methods.setdefault(method, {})[precision] = cost
        if settings.device.type == "cuda" and isinstance(cost, float):
            peak = torch.cuda.max_memory_allocated(settings.device) - before
            found.memory[method] = max(found.memory.get(method, 0), peak / len(images) / 2**30)


def seconds(call: Callable[[], object], settings: Settings, images: int, expected: float = 0) -> float | str:
    """Return the median of the seconds an image that a call takes, warmed up; or why there are none.

    expected: the seconds of a call, as far as that is known.
    """
    if settings.left() < 2 * expected or settings.left() <= 0:
        return LATE
    times: list[float] = []
    try:
        for repeat in range(settings.repeats + 1):
            if times and (settings.left() < times[-1] or sum(times) > ENOUGH):
                break
            start = _now(settings.device)
            call()
            took = _now(settings.device) - start
            if repeat:
                times.append(took)
            elif settings.left() < took:
                return LATE
    except RapbenchError:
        return "refused"
    except Exception as error:
        if not out_of_memory(error):
            raise
        error.__traceback__ = None
        gc.collect()
        if settings.device.type == "cuda":
            torch.cuda.empty_cache()
        return "no memory"
    return statistics.median(times) / images


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextmanager
def computing(precision: str) -> Iterator[None]:
    """Multiply float32 as it is, or for tf32 with the 10 bits of a GPU's TF32 units."""
    with full_precision():
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        yield


def table1_minutes(found: Found, precision: str) -> float | str:
    """Return the minutes of Table I's attribution and perturbed passes for 500 images; LATE where a part is missing.

    Attribution is float32 whatever the precision: in bf16 it is fp32's.
    """
    total = 0.0
    for method in table1_methods():
        signs = methods[method].facts.signs
        parts = [(1, found.methods[method]["fp32" if precision == "bf16" else precision])]
        for name in TABLE:
            asked = max(protocols[name].function().asked(signs), 1)
            parts.append((asked, found.perturbed[name][precision]))
        for times, cost in parts:
            if isinstance(cost, str):
                return LATE
            total += times * cost
    return total * WHOLE / 60


def table(architecture: str, found: Found) -> str:
    """Return a network's table in Markdown."""
    rows: list[list[str]] = []

    def add(name: str, cells: dict[str, float | str], more: str = NONE) -> None:
        rows.append([name, *(_shown(cells.get(precision, NONE)) for precision in PRECISIONS), more])

    def milliseconds(cells: dict[str, float | str]) -> dict[str, float | str]:
        return {precision: cost if isinstance(cost, str) else 1000 * cost for precision, cost in cells.items()}

    for name, cells in found.forward.items():
        add(f"{name}, ms an image", milliseconds(cells))
    for name, cells in found.perturbed.items():
        asks = protocols[name].function().asked(SIGNS)
        add(f"`{name}`, ms a{' perturbed' if asks else 'n'} image", milliseconds(cells))
    for name, cells in found.methods.items():
        memory = f"{found.memory[name]:.2f}" if name in found.memory else NONE
        add(f"`{name}`, ms an image", milliseconds(cells), memory)
    add(f"Table I, {WHOLE} images, minutes", {precision: table1_minutes(found, precision) for precision in PRECISIONS})
    headers = ["", *PRECISIONS, "GiB an image"]
    shown = tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=["left", *["right"] * 4])
    return f"## {architecture}\n\n{shown}\n"


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What a GPU does in nine minutes.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=510)
    parser.add_argument("--networks", nargs="+", default=["resnet50", "vgg16"])
    parser.add_argument("--quick", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
