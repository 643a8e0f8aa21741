"""What a report has to know of a run beside its numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from rapbench.report.verdict import CONTROLS


@dataclass(frozen=True)
class Paper:
    """Whether the paper's numbers are shown.

    methods, perturbations: the labels whose rows are the paper's; None for all. reason: why they, or some of them, are
    not shown, as a sentence; empty where there is nothing to say.
    """

    shown: bool = False
    methods: tuple[str, ...] | None = None
    perturbations: tuple[str, ...] | None = None
    reason: str = ""

    def of(self, published: pd.DataFrame) -> pd.DataFrame:
        """Return those rows of the paper's Table I that are shown."""
        chosen = pd.Series(self.shown, index=published.index)
        for column, labels in (("method", self.methods), ("perturbation", self.perturbations)):
            if labels is not None:
                chosen &= published[column].isin(labels)
        return published[chosen]


@dataclass(frozen=True)
class About:
    """caption: sentences on the run for print. controls: the labels of methods that look at no model.

    refused: of methods that could not be used, by label, why, and the signs of relevance that they would have.
    """

    caption: tuple[str, ...] = ()
    controls: tuple[str, ...] = CONTROLS
    paper: Paper = Paper()
    refused: Mapping[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)

    @classmethod
    def of(cls, provenance: Mapping[str, Any]) -> "About":
        """Return what a provenance tells; of an older one, or none, what holds of every run."""
        paper = provenance.get("paper")
        return cls(
            caption=tuple(provenance.get("caption", provenance.get("header", [])[:1])),
            controls=tuple(provenance.get("controls", CONTROLS)),
            refused={label: (provenance["refused"][label], tuple(signs))
                     for label, signs in provenance.get("refused_signs", {}).items()},
            paper=cls.paper if paper is None else Paper(
                paper["shown"], tuple(paper["methods"]), tuple(paper["perturbations"]), paper["reason"]
            ),
        )  # fmt: skip
