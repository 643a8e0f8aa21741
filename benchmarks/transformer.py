"""What is left of a small transformer's accuracy without the most relevant pixels, by method.

Usage: python -m benchmarks.transformer. Prints the table in docs/methods.md. The network is trained here, in seconds,
on handwritten digits: no weights of a vision transformer come with a package.
"""

from tabulate import tabulate

from tests.digits import still_recognised

METHODS = (
    "rap", "rap_aaai", "lrp_epsilon", "lrp_a1b0", "attnlrp", "attention_rollout", "chefer", "grad_cam",
    "gradient_x_input", "integrated_gradients", "edge", "random",
)  # fmt: skip
SIGNS = ("positive", "negative")
COUNT = 100


def main() -> None:
    """Print the table."""
    found = still_recognised(METHODS, COUNT)
    rows = [
        [f"`{method}`", *(f"{found[sign, method]:.0%}" if (sign, method) in found.index else "" for sign in SIGNS)]
        for method in METHODS
    ]
    print(tabulate(rows, ["method", *SIGNS], tablefmt="pipe", disable_numparse=True))


if __name__ == "__main__":
    main()
