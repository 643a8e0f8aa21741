"""Where files lie: those that travel with the package (configs, published numbers), and the user's cache."""

import os
from pathlib import Path

from platformdirs import user_cache_path

STORE = "store"  # below results/


def cache_folder() -> Path:
    """Return where downloads and estimated patterns are kept: $RAPBENCH_CACHE, else the user's cache folder."""
    return Path(os.environ.get("RAPBENCH_CACHE") or user_cache_path("rapbench"))


def resource(*parts: str) -> Path:
    """Return the path of a shipped file or folder: in the package (an installed wheel) or beside it (a checkout).

    Raises FileNotFoundError that names both places.
    """
    package = Path(__file__).resolve().parent
    places = [package.joinpath(*parts), package.parent.joinpath(*parts)]
    for place in places:
        if place.exists():
            return place
    raise FileNotFoundError(f"{'/'.join(parts)} is neither at {places[0]} nor at {places[1]}")
