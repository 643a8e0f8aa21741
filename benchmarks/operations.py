"""What each method does with each operation: the section of docs/networks.md, printed.

Run: python -m benchmarks.operations
"""

import os
import re
import tempfile

from tqdm import tqdm

from tests.operations import FUNCTIONS, MODULES
from tests.outcomes import LOOKS_AT_MODEL, outcome
from tests.propagation import Reference

# The columns: methods that share their rules, by how their names begin.
FAMILIES = {
    "`rap`": ("rap",),
    "`rap_aaai`": ("rap_aaai",),
    "LRP": ("lrp",),
    "AttnLRP": ("attnlrp",),
    "Captum's LRP": ("captum_lrp",),
    "DeepLIFT": ("deeplift",),
    "guided backprop, deconvolution": ("guided_backprop", "deconvolution"),
    "gradients": ("sensitivity", "gradient_x_input", "integrated_gradients", "smoothgrad"),
    "patterns": ("pattern_",),
}

HEADING = "## Which method works on which operation"
TEXT = """
Each operation is tested in a small network: Conv, operation, ReLU, Linear. Its relevance is also computed from the
method's definition, in float64 by plain autograd.

- *exact*: the two agree to 1e-5 of the largest relevance.
- *conserves*: the relevance has the right sum; there is no second computation of the single values to compare with.
- Empty: the operation is unsupported, and the error names it with its path in the network.

RAP is measured without its corrections for biases and batch norms, the gradients with few steps and without noise. The
pattern methods are measured with patterns for which they equal gradient times logit. Any other operation is unsupported
where a method needs a rule for it; the gradients (`sensitivity`, `gradient_x_input`, `integrated_gradients`,
`smoothgrad`) support whatever autograd can differentiate. Operations that mix the images of a batch, or draw random
numbers, are unsupported everywhere. `python -m benchmarks.operations` prints this section (two minutes).

"""


def family(method: str) -> str:
    """Return the column that a method is in."""
    return max((len(start), name) for name, starts in FAMILIES.items() for start in starts
               if method.startswith(start))[1]  # fmt: skip


def cells(reference: Reference) -> dict[str, str]:
    """Return what each family does with an operation; where its methods differ, each of what they do."""
    found: dict[str, set[str]] = {name: set() for name in FAMILIES}
    for method in LOOKS_AT_MODEL:
        found[family(method)].add(outcome(reference, method))
    return {name: ", ".join(sorted(outcomes)) for name, outcomes in found.items()}


def section(rows: dict[str, dict[str, str]]) -> str:
    """Return the section; rows: operation to family to what it does. Operations with equal cells share a row."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, row in rows.items():
        groups.setdefault(tuple(row[one] for one in FAMILIES), []).append(name)
    ordered = sorted(groups.items(), key=lambda group: sum(cell == "unsupported" for cell in group[0]))
    lines = [f"| operations | {' | '.join(FAMILIES)} |", "|---|" + "---|" * len(FAMILIES)]
    for cells, names in ordered:
        shown = " | ".join("" if cell == "unsupported" else cell for cell in cells)
        lines.append(f"| {' · '.join(f'`{name}`' for name in names)} | {shown} |")
    return HEADING + "\n" + TEXT + "\n".join(lines) + "\n"


def read(page: str) -> dict[str, dict[str, str]]:
    """Return the rows of a page that holds the section."""
    lines = page.partition(HEADING)[2].partition("\n## ")[0].splitlines()
    rows: dict[str, dict[str, str]] = {}
    for line in (line for line in lines if line.startswith("| `")):
        names, *shown = [cell.strip() for cell in line.strip("|").split("|")]
        row = dict(zip(FAMILIES, (cell or "unsupported" for cell in shown), strict=True))
        rows |= dict.fromkeys(re.findall(r"`([^`]*)`", names), row)
    return rows


def measure() -> dict[str, dict[str, str]]:
    """Return every operation's cells."""
    with tempfile.TemporaryDirectory() as cache:
        before = os.environ.get("RAPBENCH_CACHE")
        os.environ["RAPBENCH_CACHE"] = cache
        try:
            return {case.name: cells(Reference(case)) for case in tqdm(MODULES + FUNCTIONS)}
        finally:
            del os.environ["RAPBENCH_CACHE"]
            if before is not None:
                os.environ["RAPBENCH_CACHE"] = before


if __name__ == "__main__":
    print(section(measure()))
