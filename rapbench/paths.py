"""Where the files lie that travel with the package: configs and published numbers."""

from pathlib import Path


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
