"""Drawn figures to files, the same bytes for the same figure."""

import io
import logging

import matplotlib
from matplotlib.figure import Figure

KINDS = ("png", "pdf")
logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of every glyph, and Hydra prints that
NO_DATE = {"png": None, "pdf": {"CreationDate": None}}


def figure_files(figure: Figure, stem: str, dpi: int = 150) -> dict[str, bytes]:
    """Return STEM.png and STEM.pdf, which has its fonts in it. dpi: of the PNG, and of pictures in the PDF."""
    files: dict[str, bytes] = {}
    with matplotlib.rc_context({"pdf.fonttype": 42}):  # TrueType: journals refuse the default's type 3
        for kind in KINDS:
            buffer = io.BytesIO()
            figure.savefig(buffer, dpi=dpi, format=kind, metadata=NO_DATE[kind])
            files[f"{stem}.{kind}"] = buffer.getvalue()
    return files
