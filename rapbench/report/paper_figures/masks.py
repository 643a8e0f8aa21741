"""Figure 7a: which pixels each method takes, and what the network says without them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rapbench.core.signs import Sign
from rapbench.protocols.base.ks import number_of
from rapbench.protocols.base.ranking import rank_pixels
from rapbench.report.paper_figures import sheet
from rapbench.report.paper_figures.columns import Columns
from rapbench.report.paper_figures.sheet import GAP, HEIGHT, LABELS, LINE, SMALL, WIDTH, Sheet
from rapbench.report.verdict import names_of
from rapbench.results.display import ordered

MARKS = {"positive": (204, 51, 17), "negative": (0, 119, 187)}  # Paul Tol's "vibrant" red and blue
OUTCOME = {True: ("✓", "#117733"), False: ("✗", "#AA3377")}
PALE = 0.5  # how dark the picture below the marks may get


@dataclass(frozen=True)
class Mask:
    """selected: (H, W) pixels that were removed. predicted: what the network then takes the image for."""

    selected: NDArray[np.bool_]
    predicted: str
    correct: bool


@dataclass(frozen=True)
class Example:
    """image: (H, W, 3). name: its label's. masks: by sign and method; a method without the sign has none."""

    file: str
    name: str
    image: NDArray[np.uint8]
    masks: dict[Sign, dict[str, Mask]]


def mask_sheets(examples: Sequence[Example], ks: dict[Sign, str], sentence: str) -> list[Sheet]:
    """Draw examples, a row a sign and a column a method, on as few sheets as hold them. ks: how many pixels by sign."""
    columns = Columns.of(name for example in examples for masks in example.masks.values() for name in masks)
    caption = sheet.fitted(sentence, WIDTH, 9)
    foot = LINE * (caption.count("\n") + 1) + 2 * GAP
    tall = len(ks) * _row(columns) + GAP
    most = max(1, int((HEIGHT - columns.top - foot) / tall))
    sheets = []
    for start in range(0, len(examples), most):
        shown = examples[start : start + most]
        page = Sheet(columns.top + foot + tall * len(shown))
        columns.write(page)
        y = columns.top
        for example in shown:
            page.rule(y)
            _example(page, y + GAP, columns, example, ks)
            y += tall
        page.words(0, y + GAP, caption)
        sheets.append(page)
    return sheets


def fewer_sentence(masks: Sequence[dict[Sign, dict[str, Mask]]], ks: dict[Sign, str]) -> str:
    """Say which methods have maps with fewer than K pixels of a sign among those shown; empty where none has."""
    said = []
    for sign, k in ks.items():
        names = {name: None for shown in masks for name, mask in shown[sign].items()
                 if k != "all" and mask.selected.sum() < number_of(k, mask.selected.size)}  # fmt: skip
        if names:
            have = f" Some maps have fewer than {k} {sign} pixels, and all of these are removed"
            said.append(f"{have}: {names_of(ordered('method', names))}.")
    return "".join(said)


def _row(columns: Columns) -> float:
    """Return the height of a mask with two lines below it."""
    return columns.side + 2 * LINE + 2 * GAP


def _example(page: Sheet, y: float, columns: Columns, example: Example, ks: dict[Sign, str]) -> None:
    side = columns.side
    page.picture(LABELS, y, side, example.image)
    page.words(LABELS + side / 2, y + side + GAP, sheet.fitted(example.name, side, 2), ha="center")
    page.words(0, y, sheet.shortened(example.file, LABELS - 2 * GAP, SMALL), color=sheet.GREY, fontsize=SMALL)
    for sign, k in ks.items():
        colour = "#{:02X}{:02X}{:02X}".format(*MARKS[sign])
        page.words(0, y + side / 2, f"without the {k}\nmost {sign}\npixels", va="center", color=colour)
        for method, x in columns.x.items():
            centre = x + side / 2
            if mask := example.masks[sign].get(method):
                page.picture(x, y, side, marked(example.image, mask.selected, sign))
                symbol, colour = OUTCOME[mask.correct]
                said = sheet.fitted(f"{symbol}\N{NO-BREAK SPACE}{mask.predicted}", side, 2)
                page.words(centre, y + side + GAP, said, ha="center", color=colour)
            else:
                page.words(centre, y + side / 2, f"no\n{sign}\nrelevance", ha="center", va="center", color=sheet.GREY)
        y += _row(columns)


def selected_pixels(heatmaps: NDArray[np.float32], sign: Sign, k: str) -> NDArray[np.bool_]:
    """Return which pixels of (N, H, W) maps are perturbed at a K of one sign, (N, H, W), as the protocols rank them."""
    ranking = rank_pixels(torch.from_numpy(heatmaps), sign)
    ranks = ranking.order.argsort(1)  # of each pixel
    return (ranks < ranking.selected(k)[:, None]).view(heatmaps.shape).numpy()


def marked(image: NDArray[np.uint8], selected: NDArray[np.bool_], sign: Sign) -> NDArray[np.uint8]:
    """Return an (H, W, 3) picture, grey and pale, with the selected pixels in the sign's colour."""
    picture = 255 - PALE * (255 - sheet.grey(image))
    return np.where(selected[..., None], np.array(MARKS[sign], np.uint8), np.rint(picture).astype(np.uint8)[..., None])
