"""Whether a file's names are those that a network has."""

from collections.abc import Iterable

from rapbench.core.errors import RapbenchError


def refuse_mismatch(wanted: Iterable[str], found: Iterable[str], where: str, hint: str) -> None:
    """Raise RapbenchError that names what is missing and what is unknown, the first three of each; `hint` ends it."""
    wanted, found = list(wanted), list(found)
    known, given = set(wanted), set(found)
    parts = [
        f"{verb} {', '.join(names[:3])}" + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        for verb, names in (
            ("lacks", [name for name in wanted if name not in given]),
            ("has unknown", [name for name in found if name not in known]),
        )
        if names
    ]
    if parts:
        raise RapbenchError(f"{where} {' and '.join(parts)}; {hint}")
