"""The frozen baselines that come with the package."""

from pathlib import Path

from rapbench.core.errors import RapbenchError, did_you_mean
from rapbench.core.paths import resource


def shipped_baselines() -> dict[str, Path]:
    """Return the CSV file of each, by name."""
    return {path.stem: path for path in sorted(resource("baselines", "drift").glob("*.csv"))}


def baseline_named(text: str) -> Path:
    """Return the file of a baseline that a user names: by its path, or by the name of one that comes with the package.

    Raises RapbenchError for a name that there is not.
    """
    if Path(text).suffix == ".csv":
        return Path(text)
    known = shipped_baselines()
    if text not in known:
        raise RapbenchError(f"unknown baseline {text!r}{did_you_mean(text, known)}; known: {', '.join(known)}; one of "
                            "your own is named by its CSV file")  # fmt: skip
    return known[text]
