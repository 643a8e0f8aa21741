"""What a report holds of one kind of result, before it is written."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from rapbench.report import escape
from rapbench.report.means import Measured

Done = Callable[[Any], Any]  # moves the progress bar on, and hands back what it is given


@dataclass(frozen=True)
class Head:
    """What stands above tables and figures.

    Parameters
    ----------
    title : str
        The first sentence on the run, for figures.
    header : list of str
        All sentences.
    caption : list of str
        Those of them that are for print.
    """

    title: str
    header: list[str]
    caption: list[str]

    @property
    def markdown(self) -> list[str]:
        """All sentences in Markdown."""
        return [escape.markdown(line) for line in self.header]


@dataclass(frozen=True)
class Part:
    """A part of a report.

    Parameters
    ----------
    files : dict of str to str or bytes
        By name.
    text : str
        For a terminal.
    page : dict
        What `page.build.page` takes of it, by the name of the argument.
    verdict, pairs : DataFrame, optional
        Of `verdicts` and `pair_tests`; None for results of which neither is made.
    measured : Measured, optional
        The means of a protocol without a layout of its own.
    """

    files: dict[str, str | bytes]
    text: str
    page: dict[str, Any] = field(default_factory=dict)
    verdict: pd.DataFrame | None = None
    pairs: pd.DataFrame | None = None
    measured: Measured | None = None
