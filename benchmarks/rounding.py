"""How far RAP and LRP in float32 lie from float64, and how far they would without what is computed again.

Usage: python -m benchmarks.rounding [NAME ...]. Prints a row for each network of tests/families.py and method, as soon
as it is measured; all of them take about an hour.
"""

import copy
import functools
import sys
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

import rapbench
from rapbench.relevance import engine, lrp, precise
from tests.families import NAMES, network_called

METHODS = ("rap", "rap_aaai", "lrp_epsilon", "lrp_gamma", "attnlrp")
HEADER = """| network | method | off in float32 alone | estimate | computed in | off |
|---|---|---|---|---|---|"""


def row(name: str, method: str, explain: Callable[[torch.dtype], Tensor]) -> str:
    """Return a method's row; explain: from a type to the heatmap of one image."""
    seen: list[tuple[Tensor, float]] = []

    def watched(compute: precise.Compute, *args: object) -> Tensor:
        def once(*args: object) -> tuple[Tensor, Tensor]:
            relevance, share = compute(*args)  # type: ignore[arg-type]
            seen.append((relevance, float(share)))
            return relevance, share

        return precise.resolved(once, *args)  # type: ignore[arg-type]

    engine.resolved = lrp.resolved = watched  # type: ignore[assignment, attr-defined]
    try:
        exact = explain(torch.float64)
        seen.clear()
        found = explain(torch.float32)
    except rapbench.RapbenchError as error:
        return f"| {name} | {method} | {str(error)[:60]} | | | |"
    (alone, estimate), computed = seen[0], "float64" if len(seen) > 1 else "float32"

    def off(heatmap: Tensor) -> float:
        return float((heatmap - exact).abs().sum() / exact.abs().sum())

    return f"| {name} | `{method}` | {off(alone):.1e} | {estimate:.1e} | {computed} | {off(found):.1e} |"


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore")
    print(HEADER)
    for name in sys.argv[1:] or NAMES:
        network, size = network_called(name)
        network.float().double()  # what float32 holds of its weights
        x = torch.randn(1, *size, generator=torch.Generator().manual_seed(1)).double()
        with torch.no_grad():
            target = network(x).argmax(1)
        both = {torch.float64: network, torch.float32: copy.deepcopy(network).float()}
        for method in METHODS:
            explain = functools.partial(explained, both, x, target, method)
            print(row(name, method, explain), flush=True)


def explained(
    networks: dict[torch.dtype, nn.Module], x: Tensor, target: Tensor, method: str, dtype: torch.dtype
) -> Tensor:
    """Return a heatmap, computed in a type."""
    return rapbench.attribute(networks[dtype], x.to(dtype), target, method)


if __name__ == "__main__":
    main()
