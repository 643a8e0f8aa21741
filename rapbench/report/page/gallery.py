"""The page's gallery: inputs, heatmaps, and what the network says before and after."""

from typing import Any

import pandas as pd

from rapbench.report.page.words import middle, number, options, records
from rapbench.report.pictures import address_of, heatmap_of, heatmap_slices_of, picture_of, shown_slices, slices_of
from rapbench.results.display import NAMES, ordered
from rapbench.results.gallery import Gallery

# By the number of spatial dimensions: how the inputs are shown.
SHOWN = {
    1: "each as a line, the mean of its channels from the least to the greatest value, with the heatmap behind it",
    2: "as the network sees them",
    3: "as the network sees them: the central slices across each of their dimensions, and all across the first one",
}
SMALL = 128  # pixels; below, a page shows each pixel as a square


def gallery_section(
    gallery: Gallery, images: pd.DataFrame | None
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return the gallery laid out, and what became of its inputs where that was measured.

    Parameters
    ----------
    gallery : Gallery
        What to show.
    images : DataFrame, or None
        Per-input results of perturbations.

    Returns
    -------
    tuple of dict, or None
        For the template and for the page's script; both None where the results are of other inputs.
    """
    dimensions = gallery.images.ndim - 2
    before: dict[int, str] = {}
    controls: dict[str, Any] = {}
    data: dict[str, Any] | None = None
    if images is not None and len(images):
        known = images[images["image"].isin(gallery.files)]
        if known.empty:
            return None, None
        before, controls, data = _measured(gallery, known)
    pictures = [_pictures(gallery, place) for place in range(len(gallery.files))]
    for place, picture in enumerate(pictures):
        picture["before"] = before.get(place, "not measured") if data else ""
    small = dimensions > 1 and max(picture_of(gallery.images[0]).size) < SMALL
    return {"images": pictures, "controls": controls, "shown": SHOWN[dimensions], "small": small,
            "wide": dimensions != 2, "scroll": _scroll(gallery) if dimensions == 3 else None}, data  # fmt: skip


def _pictures(gallery: Gallery, place: int) -> dict[str, Any]:
    """Return one input's pictures for the template: its own, and one of each method's heatmap."""
    image, label = gallery.images[place], gallery.labels[place]
    methods = {method: gallery.maps[method][place] for method in ordered("method", gallery.maps)}
    picture, volume = picture_of(image), image.ndim == 4
    maps = [{"src": address_of(heatmap_of(values, image)), "name": NAMES.get(method, method), "method": method,
             "slices": address_of(heatmap_slices_of(values)) if volume else ""}
            for method, values in methods.items()]  # fmt: skip
    return {"src": address_of(picture), "slices": address_of(slices_of(image)) if volume else "",
            "file": gallery.files[place], "name": _class(gallery, label), "number": place, "maps": maps,
            "width": picture.width, "height": picture.height}  # fmt: skip


def _scroll(gallery: Gallery) -> dict[str, Any]:
    """Return what scrolling through volumes takes: the slices' numbers, the first one's place, and their shape."""
    depth, height, width = gallery.images.shape[1:4]
    numbers = shown_slices(depth)
    first = min(range(len(numbers)), key=lambda place: abs(numbers[place] - depth // 2))
    return {"numbers": numbers, "first": first, "of": depth, "width": width, "height": height}


def _measured(gallery: Gallery, known: pd.DataFrame) -> tuple[dict[int, str], dict[str, Any], dict[str, Any] | None]:
    """Return what the network says before, by place; the controls of what is shown; and what it says after."""
    ks = {sign: ordered("k", known[(known["sign"] == sign) & (known["k"] != "0")]["k"])
          for sign in ordered("sign", known["sign"])}  # fmt: skip
    ks = {sign: values for sign, values in ks.items() if values}
    if not ks:
        return {}, {}, None
    after: dict[str, dict[str, dict[str, list[Any]]]] = {}
    before: dict[int, str] = {}
    for row in records(known):
        place = gallery.files.index(row["image"])
        text = f"{_class(gallery, row['predicted'])}, label's logit {number(row['logit'], 2)}"
        if row["k"] == "0":
            before.setdefault(place, text)
        else:
            key = f"{row['sign']}|{row['perturbation']}|{row['k']}"
            after.setdefault(str(place), {}).setdefault(row["method"], {})[key] = [bool(row["correct"]), text]
    first = next(iter(ks))
    first_k = {sign: middle(values) for sign, values in ks.items()}
    controls = {
        "sign": options(list(ks)),
        "perturbation": options(ordered("perturbation", known["perturbation"])),
        "K": options(ks[first], first_k[first]),
    }
    return before, controls, {"after": after, "ks": ks, "middle": first_k}


def _class(gallery: Gallery, index: int) -> str:
    return gallery.classes[index] if 0 <= index < len(gallery.classes) else f"class {index}"
