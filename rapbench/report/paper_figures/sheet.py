"""A sheet of paper: small pictures and words at places given in inches from its upper left corner."""

import textwrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath
from numpy.typing import NDArray
from PIL import Image

from rapbench.report.canvas import figure_files
from rapbench.report.escape import figure, visible

WIDTH, HEIGHT = 6.875, 8.875  # inches, the text of a two-column page (CVPR's)
SIZE, SMALL = 6.0, 5.0  # points
LINE = 1.2 * SIZE / 72  # inches from one line of words to the next
DPI = 400  # all lengths here are whole dots of it: a picture's dots fall on the paper's
GREY = "#555555"  # of words that matter less
GAP = 0.03  # inches between pictures
LABELS = 0.85  # inches at the left for words


class Sheet:
    """A figure of the page's width."""

    def __init__(self, height: float):
        self.height = height
        self.figure = Figure(figsize=(WIDTH, height))

    def picture(self, x: float, y: float, side: float, colours: NDArray[np.uint8]) -> None:
        """Put an (H, W, 3) picture into a square with a thin frame."""
        self.strip(x, y, side, side, colours)

    def strip(self, x: float, y: float, width: float, height: float, colours: NDArray[np.uint8]) -> None:
        """Put an (H, W, 3) picture into a frame of any shape."""
        panel = self.figure.add_axes((x / WIDTH, 1 - (y + height) / self.height, width / WIDTH, height / self.height))
        panel.imshow(colours, aspect="auto")
        panel.set(xticks=[], yticks=[])
        for spine in panel.spines.values():
            spine.set(linewidth=0.3, color="#888888")

    def words(self, x: float, y: float, text: str, **style: Any) -> None:
        """Write a line, or several, below y; style: matplotlib's, over the sheet's."""
        given: dict[str, Any] = {"fontsize": SIZE, "va": "top", "linespacing": 1.0, "parse_math": False} | style
        self.figure.text(x / WIDTH, 1 - y / self.height, _shown(text), **given)

    def rule(self, y: float) -> None:
        """Draw a thin line across."""
        place = 1 - y / self.height
        self.figure.add_artist(Line2D([0, 1], [place, place], linewidth=0.4, color="#888888"))

    def files(self, stem: str) -> dict[str, bytes]:
        """Return the sheet as a PNG and as a PDF."""
        return figure_files(self.figure, stem, DPI)


def dots(values: NDArray[np.floating], side: float) -> NDArray[np.float32]:
    """Return an (H, W) map as it is printed at `side` inches: the mean over each dot that holds more than a pixel.

    A mean of relevance: one of colours would make red beside blue purple, which stands for nothing.
    """
    count = round(side * DPI)
    if max(values.shape) <= count:
        return values.astype(np.float32)
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize((count, count), Image.Resampling.BOX))


def grey(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return an (H, W, 3) picture's (H, W) luma, 0 to 255 (ITU-R BT.601)."""
    luma: NDArray[np.float64] = image @ np.array([0.299, 0.587, 0.114])
    return luma


def fitted(text: str, width: float, lines: int = 1, size: float = SIZE, split: bool = True) -> str:
    """Break a text into lines of about `width` inches in letters of `size` points; what is too long ends in dots.

    split: words too, where one is wider than that.
    """
    letters = _letters(text, width, size)
    return textwrap.fill(text, letters, max_lines=lines, placeholder="…", break_long_words=split)


def shortened(name: str, width: float, size: float = SIZE) -> str:
    """Return a file's name without its folder, its middle left out where it is wider than `width` inches."""
    name = name.rpartition("/")[2]
    letters = _letters(name, width, size)
    half = (letters - 1) // 2
    return name if len(name) <= letters else f"{name[: letters - 1 - half]}…{name[-half:]}"


def _shown(text: str) -> str:
    return "\n".join(visible(line) for line in text.split("\n"))


def _letters(text: str, width: float, size: float) -> int:
    """Return how many letters as wide as the text's own fit into `width` inches."""
    wide = TextPath((0, 0), figure(text), size=size).get_extents().width / 72 if text.strip() else 0
    return max(5, int(len(text) * width / wide)) if wide else 5
