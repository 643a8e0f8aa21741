"""The paper's Figure 7: masks of images that only RAP's perturbation leaves correct, and D_K. Takes Hydra overrides."""

import sys

from _runs import Words, runs

from rapbench.app.cli import ended
from rapbench.core.errors import RapbenchError
from rapbench.core.signs import Sign


def figure7(arguments: list[str]) -> str:
    """Run what is asked for, draw it, and return where it was written. Raises RapbenchError."""
    words = Words(__doc__)
    words.add_argument("--images", type=int, default=3, help="how many, at most; default: %(default)s")
    for sign, k in {"positive": "4000", "negative": "10000"}.items():
        help = f"how many {sign} pixels are masked, one of the run's K; default: %(default)s"
        words.add_argument(f"--{sign}", default=k, metavar="K", help=help)
    options = words.parse_intermixed_args(arguments)
    if options.images < 1:
        raise RapbenchError(f"--images must be at least 1, got {options.images}")
    folders = runs("figure7", options.overrides)
    from rapbench.app.paper_figures import draw_figure7

    ks: dict[Sign, str] = {"positive": options.positive, "negative": options.negative}
    return "".join(draw_figure7(folder, ks, options.images) for folder in folders)


if __name__ == "__main__":
    sys.exit(ended(lambda: figure7(sys.argv[1:])))
