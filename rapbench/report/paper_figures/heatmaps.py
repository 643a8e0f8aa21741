"""Images by methods by models: the paper's Figures 1, 4, 5, 6 and 9."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rapbench.report.paper_figures import sheet
from rapbench.report.paper_figures.columns import Columns
from rapbench.report.paper_figures.look import Look
from rapbench.report.paper_figures.sheet import GAP, LABELS, LINE, SMALL, Sheet
from rapbench.report.pictures import palette
from rapbench.results.gallery import quantised

TITLE = 0.2  # inches, for a model's name above its rows
SCALE = 0.25  # inches, for the colours' scale below all
BAR = 1.2  # inches, of that scale
SHADE = 0.6  # how dark an overlaid picture may get


@dataclass(frozen=True)
class Block:
    """One model's rows. images: (N, H, W, 3). maps: for each method (N, H, W) relevance. names: of the labels.

    predicted: what the model takes each image for; None where that is not known.
    """

    title: str
    files: Sequence[str]
    names: Sequence[str]
    predicted: Sequence[str | None]
    images: NDArray[np.uint8]
    maps: dict[str, NDArray[np.float32]]


def heatmap_sheets(blocks: Sequence[Block], look: Look) -> list[Sheet]:
    """Draw blocks of the same images, a row an image and a column a method, on as few sheets as hold them.

    A sheet shows some of the images in every block. A method that a block lacks leaves its places empty there.
    """
    columns = Columns.of(method for block in blocks for method in block.maps)
    row, count = columns.side + GAP, len(blocks[0].files)
    room = sheet.HEIGHT - columns.top - SCALE - TITLE * len(blocks)
    most = max(1, int(room / (len(blocks) * row)))
    each = math.ceil(count / math.ceil(count / most))
    sheets = []
    for start in range(0, count, each):
        places = range(start, min(start + each, count))
        page = Sheet(columns.top + SCALE + len(blocks) * (TITLE + len(places) * row))
        columns.write(page)
        y = columns.top
        for block in blocks:
            page.rule(y)
            page.words(0, y + GAP, block.title, weight="bold")
            y += TITLE
            for place in places:
                _row(page, y, columns, block, place, look)
                y += row
        scale(page, y + GAP, look)
        sheets.append(page)
    return sheets


def _row(page: Sheet, y: float, columns: Columns, block: Block, place: int, look: Look) -> None:
    width, side, image = LABELS - 2 * GAP, columns.side, block.images[place]
    name = sheet.fitted(block.names[place], width, 2)
    page.words(0, y, name)
    lines = [sheet.shortened(block.files[place], width, SMALL)]
    if (predicted := block.predicted[place]) is not None:
        said = "predicted correctly" if predicted == block.names[place] else f"predicted: {predicted}"
        lines.append(sheet.fitted(said, width, size=SMALL))
    page.words(0, y + LINE * (name.count("\n") + 1), "\n".join(lines), color=sheet.GREY, fontsize=SMALL)
    page.picture(LABELS, y, side, image)
    for method, maps in block.maps.items():
        page.picture(columns.x[method], y, side, coloured(maps[place], image, look, side))


def scale(page: Sheet, y: float, look: Look) -> None:
    """Draw what the colours mean."""
    page.strip(LABELS, y, BAR, 0.08, palette(look.colours)[None, 1:])
    of = f"the {look.percentile:g}th percentile of each map's |relevance|"
    page.words(LABELS + BAR + GAP, y, f"\N{MINUS SIGN}1 to 1, relative to {of}")


def coloured(heatmap: NDArray[np.float32], image: NDArray[np.uint8], look: Look, side: float) -> NDArray[np.uint8]:
    """Return an (H, W) map as a picture with the dots of `side` inches; overlaid, it tints the grey (H, W, 3) image."""
    return tinted(quantised(heatmap[None], look.percentile / 100)[0], image, look, side)


def tinted(relative: NDArray[np.int8], image: NDArray[np.uint8], look: Look, side: float) -> NDArray[np.uint8]:
    """Return what `coloured` does of an (H, W) map in -127..127."""
    values = sheet.dots(relative.astype(np.float32), side)
    colours = palette(look.colours)[np.rint(values).astype(np.int16) + 128]
    if not look.overlay:
        return colours
    light = 1 - SHADE + SHADE * sheet.dots(sheet.grey(image), side) / 255
    return np.rint(colours * light[..., None]).astype(np.uint8)
