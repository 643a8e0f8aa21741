"""What a run wrote of itself."""

import json
from pathlib import Path
from typing import Any

from rapbench.errors import RapbenchError


def provenance_of(folder: Path) -> dict[str, Any]:
    """Return what a run wrote of itself, {} where it wrote nothing. Raises RapbenchError for a file that is broken."""
    path = folder / "provenance.json"
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise RapbenchError(f"{path} cannot be read ({error}); the same run writes it again") from error
