"""Which of torchvision's and timm's networks RAP, LRP and AttnLRP take, and what they drop, for docs/networks.md.

Usage: python -m benchmarks.families [NAME ...]. Prints the rows of its last section, each as soon as it is measured;
all of them take about an hour.
"""

import sys
import warnings

from tests.families import NAMES, Outcome, outcomes
from tests.networks import operation_in

BEYOND = 10  # times the logit: sums that cancel


def cell(outcome: Outcome) -> str:
    """Return what a row says of a method."""
    if "cancels" in outcome.refused:
        return "diverges"
    if outcome.refused:
        return f"unsupported: {operation_in(outcome.refused).partition(' (')[0]}"
    dropped = f"{outcome.dropped:.0%} at {outcome.place}" if outcome.dropped >= 0.005 else "none"
    if outcome.method == "rap":
        return dropped
    return f"{outcome.lost:.0%}" if abs(outcome.lost) < BEYOND else "diverges"


def main() -> None:
    """Print the rows."""
    warnings.simplefilter("ignore")
    for name in sys.argv[1:] or NAMES:
        print(f"| {name} | " + " | ".join(map(cell, outcomes(name))) + " |", flush=True)


if __name__ == "__main__":
    main()
