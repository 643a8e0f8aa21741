"""Figure 8: central slices of volumes, with RAP's two flows and their sum."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rapbench.report.paper_figures import sheet
from rapbench.report.paper_figures.columns import Columns
from rapbench.report.paper_figures.heatmaps import SCALE, scale, tinted
from rapbench.report.paper_figures.look import Look
from rapbench.report.paper_figures.sheet import GAP, HEIGHT, LABELS, LINE, SMALL, WIDTH, Sheet
from rapbench.results.display import NAMES
from rapbench.results.gallery import quantised

Values = TypeVar("Values", NDArray[np.uint8], NDArray[np.int8])
PLANES = ("axial", "coronal", "sagittal")  # across the first, second and third of the dimensions z, y, x
APART = "rap"  # whose positive and negative relevance are shown apart, too


@dataclass(frozen=True)
class Volume:
    """image: (D, H, W, 3). maps: by method (D, H, W) relevance. name: its label's. predicted: None where unknown."""

    file: str
    name: str
    predicted: str | None
    image: NDArray[np.uint8]
    maps: dict[str, NDArray[np.float32]]


def slice_sheets(volumes: Sequence[Volume], planes: int, look: Look, sentence: str) -> list[Sheet]:
    """Draw volumes, a row for each of the first `planes` of PLANES, on as few sheets as hold them.

    The columns are the slice itself, every method's relevance in it, and RAP's by sign. sentence: says which these are.
    """
    columns = Columns(_heads(volumes[0]))
    row, gap = columns.side + GAP, 2 * GAP
    caption = sheet.fitted(sentence, WIDTH, 9)
    foot = SCALE + LINE * (caption.count("\n") + 1) + 2 * GAP
    most = max(1, int((HEIGHT - columns.top - foot) / (planes * row + gap)))
    sheets = []
    for start in range(0, len(volumes), most):
        shown = volumes[start : start + most]
        page = Sheet(columns.top + foot + (planes * row + gap) * len(shown))
        columns.write(page)
        y = columns.top
        for volume in shown:
            page.rule(y)
            y += gap
            _words(page, y, volume)
            for axis, plane in enumerate(PLANES[:planes]):
                _row(page, y, columns, volume, axis, look)
                page.words(
                    LABELS - GAP, y + columns.side, plane, ha="right", va="bottom", color=sheet.GREY, fontsize=SMALL
                )
                y += row
        scale(page, y + GAP, look)
        page.words(0, y + SCALE + GAP, caption)
        sheets.append(page)
    return sheets


def central(volume: Values, axis: int) -> Values:
    """Return the slice across one of the first three dimensions, number N // 2 of N from 0."""
    found: Values = volume.take(volume.shape[axis] // 2, axis)
    return found


def _heads(volume: Volume) -> dict[str, str]:
    """Return what the columns are called, in their order."""
    heads = {name: NAMES.get(name, name) for name in volume.maps}
    if APART in heads:
        heads |= {f"{APART} {sign}": f"{heads[APART]}, {sign}" for sign in ("positive", "negative")}
    return heads


def _words(page: Sheet, y: float, volume: Volume) -> None:
    width = LABELS - 2 * GAP
    name = sheet.fitted(volume.name, width, 2)
    page.words(0, y, name)
    lines = [sheet.shortened(volume.file, width, SMALL)]
    if volume.predicted is not None:
        said = "predicted correctly" if volume.predicted == volume.name else f"predicted: {volume.predicted}"
        lines.append(sheet.fitted(said, width, size=SMALL))
    page.words(0, y + LINE * (name.count("\n") + 1), "\n".join(lines), color=sheet.GREY, fontsize=SMALL)


def _row(page: Sheet, y: float, columns: Columns, volume: Volume, axis: int, look: Look) -> None:
    image = central(volume.image, axis)
    page.picture(LABELS, y, columns.side, image)
    for name, values in _shown(volume, look):
        picture = tinted(central(values, axis), image, look, columns.side)
        page.picture(columns.x[name], y, columns.side, picture)


def _shown(volume: Volume, look: Look) -> Iterator[tuple[str, NDArray[np.int8]]]:
    """Yield each column's volume in -127..127, relative to the whole volume of its method."""
    for name, heatmap in volume.maps.items():
        values = quantised(heatmap[None], look.percentile / 100)[0]
        yield name, values
        if name == APART:
            yield f"{name} positive", values.clip(min=0)
            yield f"{name} negative", values.clip(max=0)
