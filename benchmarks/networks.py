"""Which networks work with which methods, and RAP's rounding and conservation check: measured, as docs/networks.md.

Usage: (python -m benchmarks.networks; python -m benchmarks.operations; python -m benchmarks.zennit_beside;
python -m benchmarks.families) >
docs/networks.md (two hours on one core)
"""

import os
import tempfile
from collections.abc import Iterable, Iterator

import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

import rapbench
from rapbench.data.samples import samples
from rapbench.methods import methods
from rapbench.patterns import estimate, save
from rapbench.relevance import Balance
from tests.networks import MODERN, NETWORKS, operation_in
from tests.options import QUICK_METHODS

REAL = ("resnet50_keras", "efficientnet_lite0")

HEAD = """\
# Networks

Measured by `python -m benchmarks.networks`, on networks with random weights and calibrated batch norms, and on the two
embedded models with real weights and images. Any other network is traced and checked in the same way: before a method
computes anything, an error names each operation that it does not support.

## Which method works on which network

In float64. A cell is empty if the network is unsupported; the list below the table says because of which operation.
Methods that work on the same networks share a column. Transformers have few layers or small images.

"""
ROUNDING = """
## Conservation check and rounding of RAP

Worst error: the largest difference between a pixel's relevance in float32 and in float64, divided by the largest
relevance of its image. Dropped: the largest share of a layer's relevance (of the sum of magnitudes) that is dropped
because its denominator is zero, in each flow, and the path of that layer. In float64 every layer of every network
passes the conservation check: relevance in + dropped = relevance out, to 1e-9. Inputs have the size that a network is
made for. An error below 1e-7 is of images that were computed again in float64 ([Rounding](methods.md#rounding)).

| network | worst error, float32 | dropped, normal | dropped, inversion |
|---|---|---|---|
"""


def random_images(shape: tuple[int, ...], count: int) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))


def works(network: nn.Module, x: Tensor) -> Iterator[tuple[str, str]]:
    """Yield each method with the reason why the network is unsupported, or nothing."""
    for method in methods:
        try:
            if "patterns" in methods[method].facts.files:
                save(estimate(network, [x]), network)
            relevance = rapbench.attribute(network, x, 3, method, **QUICK_METHODS.get(method, {}))
        except rapbench.RapbenchError as error:
            yield method, str(error)
        else:
            assert relevance.isfinite().all()
            yield method, ""


def rounding(network: nn.Module, x: Tensor, targets: Tensor) -> str:
    """Return the table's cells for one network; x: float32."""
    checks: list[Balance] = []
    network = network.float()  # the same weights in both
    exact = rapbench.attribute(network.double(), x.double(), targets, "rap")
    rapbench.attribute(network, x.double(), targets, "rap", balance=checks)
    got = rapbench.attribute(network.float(), x, targets, "rap")
    scale = exact.abs().flatten(1).amax(1)
    worst = float(((got - exact).abs().flatten(1).amax(1) / scale).max())
    cells = [f"{worst:.0e}"]
    for flow in ("normal", "inversion"):
        entries = [entry for entry in checks if entry.flow == flow]
        shares = [float((entry.dropped.abs() / entry.total.clamp(min=1e-300)).max()) for entry in entries]
        most = max(range(len(shares)), key=shares.__getitem__)
        cells.append(f"{shares[most]:.1e} at {entries[most].place}" if shares[most] > 1e-12 else "none")
    return " | ".join(cells)


def table(found: dict[str, dict[str, str]]) -> str:
    """Return the section; found: by network and method, why it is unsupported, or nothing."""
    groups: dict[tuple[bool, ...], list[str]] = {}  # methods that work on the same networks
    reasons: dict[str, dict[str, list[str]]] = {}
    for method in methods:
        groups.setdefault(tuple(not whys[method] for whys in found.values()), []).append(f"`{method}`")
        for name, whys in found.items():
            if whys[method]:
                why = operation_in(whys[method]).removeprefix(f"{method} ")
                reasons.setdefault(method, {}).setdefault(why, []).append(name)
    lines = [
        f"| network | {' | '.join(', '.join(group) for group in groups.values())} |",
        "|---|" + "---|" * len(groups),
    ]
    for number, name in enumerate(found):
        lines.append(f"| {name} | " + " | ".join("yes" if group[number] else "" for group in groups) + " |")
    said: dict[str, list[str]] = {}  # methods that are unsupported for the same reasons
    for method, by_reason in reasons.items():
        text = "; ".join(f"{why} ({_which(names, found)})" for why, names in by_reason.items())
        said.setdefault(text, []).append(f"`{method}`")
    bullets = [f"- {', '.join(names)}: {text}" for text, names in said.items()]
    return HEAD + "\n".join([*lines, "", *bullets]) + "\n"


def _which(names: list[str], every: Iterable[str]) -> str:
    others = [name for name in every if name not in names]
    return f"all but {'; '.join(others)}" if 2 * len(others) < len(names) else "; ".join(names)


def main() -> None:
    """Print the page."""
    found: dict[str, dict[str, str]] = {}
    exactness = []
    with tempfile.TemporaryDirectory() as cache:
        os.environ["RAPBENCH_CACHE"] = cache
        for name, case in tqdm((NETWORKS | MODERN).items()):
            network = case.network(case.small).double()
            found[name] = dict(works(network, random_images(case.small, 2).double()))
        del os.environ["RAPBENCH_CACHE"]
    print(table(found))
    for name, case in tqdm((NETWORKS | MODERN).items()):
        cells = rounding(case.network(case.full), random_images(case.full, 1), torch.tensor([3]))
        exactness.append(f"| {name} | {cells} |")
    for name in tqdm(REAL):
        model, dataset = rapbench.load_model(name), samples()
        x = torch.stack([model.transform(Image.open(dataset.root / sample.file)) for sample in dataset.samples[:8]])
        targets = torch.tensor([sample.label for sample in dataset.samples[:8]])
        exactness.append(f"| {name}, real weights, 8 real images | {rounding(model, x, targets)} |")
    print(ROUNDING + "\n".join(exactness))


if __name__ == "__main__":
    main()
