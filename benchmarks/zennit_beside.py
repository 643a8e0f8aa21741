"""How far LRP's methods are from zennit's composites, on the networks that zennit's own canonizers handle.

Usage: python -m benchmarks.zennit_beside [NETWORK ...], which prints a section of docs/networks.md (some minutes). In
float64, with random weights and calibrated batch norms, on one image of the small size.
"""

import sys

import torch
from tqdm import tqdm

import rapbench
from tests.networks import NETWORKS
from tests.referee import ZENNITS, ours, zennits_own

HEAD = """\
## LRP beside zennit

zennit sees modules, and adds to torchvision's residual blocks what it needs to see. On the networks that it sees whole,
each LRP method is compared with zennit's composite of the same rules, through zennit's own canonizers. The numbers are
the largest difference between two relevances, divided by the largest relevance, in float64. `python -m
benchmarks.zennit_beside` prints this section.

"""


def main() -> None:
    """Print the section."""
    rows, unseen = [], []
    for name, case in tqdm([(name, case) for name, case in NETWORKS.items() if not sys.argv[1:] or name in sys.argv]):
        network = case.network(case.small).float().double()
        x = torch.randn(1, *case.small, generator=torch.Generator().manual_seed(1)).double()
        cells = []
        for method in ZENNITS:
            try:
                want = zennits_own(network, x, 3, method)
            except rapbench.RapbenchError as error:
                reason = str(error).removeprefix("zennit: ").partition(";")[0]
                unseen.append(f"- {name}: {reason.removeprefix('no right relevance at ')}")
                break
            apart = (ours(network, x, 3, method) - want).abs().max() / want.abs().max()
            cells.append(f"{float(apart):.0e}")
        else:
            rows.append(f"| {name} | " + " | ".join(cells) + " |")
    print(HEAD + "| network | " + " | ".join(f"`{method}`" for method in ZENNITS) + " |")
    print("|---|" + "---|" * len(ZENNITS))
    print("\n".join(rows))
    print("\nzennit alone does not see the others whole, and `zennit:NAME` refuses them:\n")
    print("\n".join(unseen))


if __name__ == "__main__":
    main()
