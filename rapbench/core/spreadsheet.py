"""CSV that a spreadsheet may open: no name in it is taken for a formula, and every name can be had back.

A spreadsheet runs a cell that begins with = + - or @. Names of methods, images and models may come from elsewhere, so
one that begins so has a `'` before it, which spreadsheets show or drop and `from_cell` takes off. Numbers stay numbers.
"""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# Behind whatever a spreadsheet skips; the wide signs count in some of them.
FORMULA = re.compile(r"[\s']*[=+\-@＝＋－＠]|[\t\r\n]")  # noqa: RUF001


def cell(name: str) -> str:
    """Return a name as a cell of CSV."""
    return f"'{name}" if FORMULA.match(name) else name


def from_cell(text: str) -> str:
    """Return the name that `cell` was given."""
    return text[1:] if text.startswith("'") and FORMULA.match(text[1:]) else text


def csv_text(frame: "pd.DataFrame") -> str:
    """Return a table as CSV: its texts as names, its numbers as numbers, negative ones too."""
    from pandas.api.types import is_numeric_dtype

    named = [name for name, kind in frame.dtypes.items() if not is_numeric_dtype(kind)]
    safe = {str(name): [cell(value) if isinstance(value, str) else value for value in frame[name]] for name in named}
    return frame.assign(**safe).to_csv(index=False, lineterminator="\n")
