"""The page's gallery: images, heatmaps, and what the network says before and after."""

from typing import Any

import pandas as pd

from rapbench.report.gallery import Gallery, heatmap_png, picture_png
from rapbench.report.page.words import middle, number, options, records
from rapbench.report.tables import NAMES, ordered


def gallery_section(gallery: Gallery, images: pd.DataFrame) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return the gallery laid out, and what became of its images; None where the results are of other images."""
    known = images[images["image"].isin(gallery.files)]
    ks = {sign: ordered("k", known[(known["sign"] == sign) & (known["k"] != "0")]["k"])
          for sign in ordered("sign", known["sign"])}  # fmt: skip
    ks = {sign: values for sign, values in ks.items() if values}
    if not ks:
        return None, None
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
    pictures = []
    for place, (file, label, picture) in enumerate(zip(gallery.files, gallery.labels, gallery.images, strict=True)):
        maps = [{"src": heatmap_png(gallery.maps[method][place]), "name": NAMES.get(method, method), "method": method}
                for method in ordered("method", gallery.maps)]  # fmt: skip
        pictures.append({"src": picture_png(picture), "file": file, "name": _class(gallery, label), "number": place,
                         "before": before.get(place, "not measured"), "maps": maps, "width": picture.shape[1],
                         "height": picture.shape[0]})  # fmt: skip
    first = next(iter(ks))
    first_k = {sign: middle(values) for sign, values in ks.items()}
    controls = {
        "sign": options(list(ks)),
        "perturbation": options(ordered("perturbation", known["perturbation"])),
        "K": options(ks[first], first_k[first]),
    }
    return {"images": pictures, "controls": controls}, {"after": after, "ks": ks, "middle": first_k}


def _class(gallery: Gallery, index: int) -> str:
    return gallery.classes[index] if 0 <= index < len(gallery.classes) else f"class {index}"
