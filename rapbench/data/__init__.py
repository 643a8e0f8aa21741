"""Labelled images: where they are, how they are decoded, and the subset that a run uses."""

from typing import TYPE_CHECKING, Any

from rapbench.registry import Registry, as_stated

if TYPE_CHECKING:
    from rapbench.data.labelled.dataset import Dataset

datasets: Registry[dict[str, Any]] = Registry("data set", "rapbench.data", as_stated)


def load_data(name: str, **options: Any) -> "Dataset":
    """Return a data set.

    Parameters
    ----------
    name : str
        A registered name, or your own module:name.
    options
        Options of that data set; `rapbench list data NAME` shows them.

    Returns
    -------
    Dataset

    Raises
    ------
    RapbenchError
        For an unknown name or option, or if the data is not found.

    Examples
    --------
    >>> data = rapbench.load_data("folder", root="photos", labels="folders")
    """
    entry = datasets[name]
    data: Dataset = entry.function(**entry.check(options))
    return data
