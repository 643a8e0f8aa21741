"""What is left of a small transformer's accuracy without the most relevant pixels, by method.

Usage: python -m benchmarks.transformer. Prints the table in docs/methods.md. The network is trained here, in seconds,
on handwritten digits: no weights of a vision transformer come with a package.
"""

import torch
from tabulate import tabulate

import rapbench
from tests.digits import trained

METHODS = (
    "rap", "rap_aaai", "lrp_epsilon", "lrp_a1b0", "attnlrp", "attention_rollout", "chefer", "grad_cam",
    "gradient_x_input", "integrated_gradients", "edge", "random",
)  # fmt: skip
SIGNS = ("positive", "negative")
REMOVED, COUNT = 13, 100


def main() -> None:
    """Print the table."""
    network, images, labels = trained()
    with torch.no_grad():
        right = network(images).argmax(1) == labels
    results = rapbench.evaluate(
        network, images[right][:COUNT], labels[right][:COUNT], methods=list(METHODS),
        protocols={"removal": ("removal", {"k": {sign: [0, REMOVED] for sign in SIGNS}})},
    )  # fmt: skip
    frame = results.runs[0].frame
    frame = frame[(frame.metric == "accuracy") & (frame.k.astype(str) == str(REMOVED))]
    found = frame.groupby(["method", "variant"], observed=True).value.mean()
    rows = [
        [f"`{method}`", *(f"{found[method, sign]:.0%}" if (method, sign) in found.index else "" for sign in SIGNS)]
        for method in METHODS
    ]
    print(tabulate(rows, ["method", *SIGNS], tablefmt="pipe", disable_numparse=True))


if __name__ == "__main__":
    main()
