"""The page's gallery: inputs, heatmaps, and what the network says before and after."""

from typing import Any

import pandas as pd

from rapbench.report.page.words import middle, number, options, records
from rapbench.report.pictures import address_of, heatmap_of, picture_of
from rapbench.results.display import NAMES, ordered
from rapbench.results.gallery import Gallery

# By the number of spatial dimensions: how the inputs are shown.
SHOWN = {
    1: "each as a line, the mean of its channels from the least to the greatest value, with the heatmap behind it",
    2: "as the network sees them",
    3: "as the network sees them, the central slices across each of their dimensions",
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
    pictures = []
    for place, (file, label, image) in enumerate(zip(gallery.files, gallery.labels, gallery.images, strict=True)):
        picture = picture_of(image)
        maps = [{"src": address_of(heatmap_of(gallery.maps[method][place], image)), "name": NAMES.get(method, method),
                 "method": method} for method in ordered("method", gallery.maps)]  # fmt: skip
        pictures.append({"src": address_of(picture), "file": file, "name": _class(gallery, label), "number": place,
                         "before": before.get(place, "not measured") if data else "", "maps": maps,
                         "width": picture.width, "height": picture.height})  # fmt: skip
    small = dimensions > 1 and max(picture_of(gallery.images[0]).size) < SMALL
    return {"images": pictures, "controls": controls, "shown": SHOWN[dimensions], "small": small,
            "wide": dimensions != 2}, data  # fmt: skip


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
