"""The paper's Figures 1, 4, 5, 6 and 9: images by methods by models. Takes Hydra overrides, and options for drawing.

Several models, `model=resnet50_keras,efficientnet_lite0`, are shown on the same images, one below the other.
"""

import sys

from _runs import Words, runs

from rapbench.app.cli import ended
from rapbench.report.paper_figures.heatmaps import COLOURS, Look


def heatmaps(arguments: list[str]) -> str:
    """Run what is asked for, draw it, and return where it was written. Raises RapbenchError."""
    words = Words(__doc__)
    words.add_argument("--colours", default=Look.colours, help=f"{', '.join(COLOURS)}; default: %(default)s")
    words.add_argument("--percentile", type=float, default=Look.percentile,
                       help="of a map's absolute values: what has the full colour; default: %(default)s")  # fmt: skip
    words.add_argument("--overlay", action="store_true", help="on the grey picture")
    options = vars(words.parse_intermixed_args(arguments))
    overrides = options.pop("overrides")
    look = Look(**options)
    folders = runs("heatmaps", overrides, same_images=True)
    from rapbench.app.paper_figures import draw_heatmaps

    return draw_heatmaps(folders, look)


if __name__ == "__main__":
    sys.exit(ended(lambda: heatmaps(sys.argv[1:])))
