"""Drawn figures to files, the same bytes for the same figure."""

import io
import logging

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure

KINDS = ("png", "pdf")  # of `figure_files`
logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of every glyph, and Hydra prints that
NO_DATE = {"png": None, "pdf": {"CreationDate": None}}


class Shown(Figure):
    """A figure that a notebook shows, whether it has imported pyplot or not."""

    def _repr_png_(self) -> bytes:
        """Return the picture, as a notebook asks for it."""
        buffer = io.BytesIO()
        self.savefig(buffer, dpi=80, format="png", metadata=NO_DATE["png"])
        return buffer.getvalue()


def figure_files(figure: Figure, stem: str, dpi: int = 150) -> dict[str, bytes]:
    """Return STEM.png and STEM.pdf, which has its fonts in it. dpi: of the PNG, and of pictures in the PDF."""
    png, pdf = io.BytesIO(), io.BytesIO()
    figure.set_dpi(dpi)
    FigureCanvasAgg(figure).print_png(png, metadata=NO_DATE["png"])
    figure.set_layout_engine("none")  # it is laid out: savefig would do it once more for each file, and draw twice
    with matplotlib.rc_context({"pdf.fonttype": 42}):  # TrueType: journals refuse the default's type 3
        FigureCanvasPdf(figure).print_pdf(pdf, metadata=NO_DATE["pdf"])
    return {f"{stem}.png": png.getvalue(), f"{stem}.pdf": pdf.getvalue()}
