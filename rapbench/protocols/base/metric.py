"""What one number of a protocol means, and how it is read; tables, tests, figures and drift know a metric by this."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Metric:
    """One column of a protocol's results, and how it is read.

    Parameters
    ----------
    name : str
        The column, and the metric's name in the results.
    better : mapping of str to {"higher", "lower"}
        By variant, the better method's value. A variant that is not there, and a detail such as a count, has none.
    title : str
        As a heading says it; the name where it is empty.
    unit : str
        Of the mean: "%", "pixels", ...; empty for a number without.
    kind : {"mean", "share", "count"}
        `count`: a whole number, such as of pixels or of a class. `share`: 0 or 1 per input; the mean is a share in per
        cent, with Wilson's interval and McNemar's test. `mean`: any number; the bootstrap over inputs and Wilcoxon's
        signed-rank test.
    axis : {"linear", "log", "share"} or None
        Of the steps in a figure; None for a single number per input, which has no steps.
    decimals : int
        Of the mean in a table.
    detail : bool
        Whether it is kept with the others and never shown as a result of its own.
    undefined : bool
        Of a share: whether some inputs may have none (NaN). A mean may always lack a value.
    """

    name: str
    better: Mapping[str, Better] = field(default_factory=dict)
    title: str = ""
    unit: str = ""
    kind: Literal["mean", "share", "count"] = "mean"
    axis: Literal["linear", "log", "share"] | None = "linear"
    decimals: int = 2
    detail: bool = False
    undefined: bool = False

    @property
    def type(self) -> str:
        """NumPy's name of the type of its values in a table."""
        return {"count": "int64", "share": "float64" if self.undefined else "bool", "mean": "float64"}[self.kind]

    @property
    def heading(self) -> str:
        """The title with the unit, as tables and axes show it."""
        title = self.title or self.name
        return f"{title} ({self.unit})" if self.unit else title
