"""Figure 7a: which pixels each method takes, and what the network says without them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rapbench.protocols.ranking import Sign, rank_pixels
from rapbench.report.paper_figures import sheet
from rapbench.report.paper_figures.sheet import GAP, HEIGHT, LABELS, LINE, SMALL, WIDTH, Sheet
from rapbench.report.tables import ordered

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
    methods = ordered("method", [name for example in examples for masks in example.masks.values() for name in masks])
    side = sheet.side_of(1 + len(methods))
    heads = [sheet.heading(method, side) for method in methods]
    top = LINE * max(head.count("\n") + 1 for head in heads) + 2 * GAP
    caption = sheet.fitted(sentence, WIDTH, 9)
    foot = LINE * (caption.count("\n") + 1) + 2 * GAP
    row = side + 2 * LINE + 2 * GAP
    tall = len(ks) * row + GAP
    most = max(1, int((HEIGHT - top - foot) / tall))
    sheets = []
    for start in range(0, len(examples), most):
        shown = examples[start : start + most]
        page = Sheet(top + foot + tall * len(shown))
        columns = [LABELS + column * (side + GAP) for column in range(1 + len(methods))]
        for x, head in zip(columns, ["Image", *heads], strict=True):
            page.words(x + side / 2, top - 2 * GAP, head, ha="center", va="baseline")
        for number, example in enumerate(shown):
            y = top + number * tall
            page.rule(y)
            _example(page, y + GAP, side, row, example, dict(zip(methods, columns[1:], strict=True)), ks)
        page.words(0, top + tall * len(shown) + GAP, caption)
        sheets.append(page)
    return sheets


def _example(
    page: Sheet, y: float, side: float, row: float, example: Example, columns: dict[str, float], ks: dict[Sign, str]
) -> None:
    width = LABELS - 2 * GAP
    page.picture(LABELS, y, side, example.image)
    name = sheet.fitted(example.name, side, 2)
    page.words(LABELS + side / 2, y + side + GAP, name, ha="center")
    page.words(0, y, sheet.shortened(example.file, width, SMALL), color="#555555", fontsize=SMALL)
    for number, (sign, k) in enumerate(ks.items()):
        place = y + number * row
        colour = "#{:02X}{:02X}{:02X}".format(*MARKS[sign])
        page.words(0, place + side / 2, f"without the {k}\nmost {sign}\npixels", va="center", color=colour)
        for method, x in columns.items():
            mask = example.masks[sign].get(method)
            if mask is None:
                page.words(
                    x + side / 2, place + side / 2, f"no\n{sign}\nrelevance", ha="center", va="center", color="#777777"
                )
                continue
            page.picture(x, place, side, marked(example.image, mask.selected, sign))
            symbol, colour = OUTCOME[mask.correct]
            said = sheet.fitted(f"{symbol} {mask.predicted}", side, 2)
            page.words(x + side / 2, place + side + GAP, said, ha="center", color=colour)


def selected_pixels(heatmaps: NDArray[np.float32], sign: Sign, k: str) -> NDArray[np.bool_]:
    """Return which pixels of (N, H, W) maps are perturbed at a K of one sign, (N, H, W), as the protocols rank them."""
    ranking = rank_pixels(torch.from_numpy(heatmaps), sign)
    ranks = ranking.order.argsort(1)  # of each pixel
    return (ranks < ranking.selected(k)[:, None]).view(heatmaps.shape).numpy()


def marked(image: NDArray[np.uint8], selected: NDArray[np.bool_], sign: Sign) -> NDArray[np.uint8]:
    """Return an (H, W, 3) picture, grey and pale, with the selected pixels in the sign's colour."""
    picture = 255 - PALE * (255 - sheet.grey(image))
    return np.where(selected[..., None], np.array(MARKS[sign], np.uint8), np.rint(picture).astype(np.uint8)[..., None])
