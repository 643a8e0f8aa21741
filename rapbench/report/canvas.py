"""Drawn figures to files, the same bytes for the same figure."""

import io
import logging
from typing import Literal, get_args

import matplotlib
from matplotlib.figure import Figure

Kind = Literal["png", "pdf"]
KINDS: tuple[Kind, ...] = get_args(Kind)
logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of every glyph, and Hydra prints that
NO_DATE = {"png": None, "pdf": {"CreationDate": None}}


def figure_bytes(figure: Figure, kind: Kind, dpi: int = 150) -> bytes:
    """Return a figure as a PNG, or as a PDF with its fonts in it. dpi: of a PNG, and of pictures in a PDF."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"pdf.fonttype": 42}):  # TrueType: journals refuse the default's type 3
        figure.savefig(buffer, dpi=dpi, format=kind, metadata=NO_DATE[kind])
    return buffer.getvalue()
