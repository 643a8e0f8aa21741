"""Labelled images: where they are, how they are decoded, and the subset that a run uses."""

from typing import TYPE_CHECKING, Any

from rapbench.registry import Registry, as_stated

if TYPE_CHECKING:
    from rapbench.data.labelled.dataset import Dataset

datasets: Registry[dict[str, Any]] = Registry("data set", "rapbench.data", as_stated)


def load_data(name: str, **options: Any) -> "Dataset":
    """Return a data set by its registry name. Raises RapbenchError for an unknown name or option, or a wrong root."""
    entry = datasets[name]
    data: Dataset = entry.function(**entry.check(options))
    return data
