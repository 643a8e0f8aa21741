"""Where files lie: those that travel with the package (configs, published numbers), the user's cache and folders."""

import os
from pathlib import Path

from platformdirs import user_cache_path

from rapbench.core.errors import RapbenchError
from rapbench.core.package import FOLDER

STORE = "store"  # below results/
LONGEST = 255  # bytes of a name in a folder, on all usual file systems


def cache_folder() -> Path:
    """Return where downloads and estimated patterns are kept: $RAPBENCH_CACHE, else the user's cache folder.

    Raises RapbenchError when neither is known: a user without an entry and without HOME, as in containers.
    """
    if named := os.environ.get("RAPBENCH_CACHE"):
        return Path(named)
    try:
        folder = user_cache_path("rapbench")
    except RuntimeError:
        folder = Path("~")
    return homely(folder, "RAPBENCH_CACHE")


def torch_cache() -> Path:
    """Return torch.hub's folder. Raises RapbenchError when no home folder is known."""
    import torch

    return homely(Path(torch.hub.get_dir()), "TORCH_HOME")


def homely(folder: Path, variable: str) -> Path:
    """Return a folder of downloads. Raises RapbenchError where `~` stands in it, as no home folder is known."""
    if folder.parts[:1] == ("~",):
        raise RapbenchError(f"no home folder is known to keep downloads in; set {variable} or HOME to a folder")
    return folder


def user_path(text: str, setting: str) -> Path:
    """Return the path that a user names, `~` resolved. setting: whose value it is, for the message.

    Raises RapbenchError for what cannot be a path.
    """
    if "\0" in text:
        raise RapbenchError(f"{setting}={text!r} holds a null character, which no path can")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise RapbenchError(f"{setting}={text}: there is no such home folder; write the path in full") from error


def resource(*parts: str) -> Path:
    """Return the path of a shipped file or folder: in the package (an installed wheel) or beside it (a checkout).

    Raises FileNotFoundError that names both places.
    """
    places = [FOLDER.joinpath(*parts), FOLDER.parent.joinpath(*parts)]
    for place in places:
        if place.exists():
            return place
    raise FileNotFoundError(f"{'/'.join(parts)} is neither at {places[0]} nor at {places[1]}")


def check_name(text: str, setting: str) -> None:
    """Raise RapbenchError unless a setting's value can name one folder."""
    reason = ""
    if not text or text != text.strip():
        reason = "is empty, or begins or ends with a blank"
    elif text in (".", ".."):
        reason = "leads to another folder"
    elif "/" in text or os.sep in text:
        reason = "holds a slash, which would lead to another folder"
    elif not text.isprintable():
        reason = "holds characters that cannot be printed"
    elif len(text.encode(errors="replace")) > LONGEST:
        reason = f"is longer than {LONGEST} bytes"
    if reason:
        raise RapbenchError(f"{setting}={_short(text)} {reason}; give the name of one folder, such as {setting}=first")


def check_folder(text: str, setting: str, read: bool = False) -> None:
    """Raise RapbenchError unless the folder that a setting names is there and can be written to, or can be made.

    read: it may be there only to be read.
    """
    reason = ""
    if not text.strip():
        reason = "is empty"
    elif not text.isprintable():
        reason = "holds characters that cannot be printed"
    elif any(len(part.encode(errors="replace")) > LONGEST for part in Path(text).parts):
        reason = f"has a name longer than {LONGEST} bytes"
    else:
        there = Path(os.path.abspath(text))
        while not os.path.lexists(there) and there != there.parent:
            there = there.parent
        if not there.is_dir():
            reason = f"cannot be made a folder: {there} is not one"
        elif not read and not os.access(there, os.W_OK | os.X_OK):
            reason = f"cannot be written to: no permission in {there}"
    if reason:
        raise RapbenchError(f"{setting}={_short(text)} {reason}; name another folder")


def _short(text: str) -> str:
    shown = text if text.isprintable() and text else repr(text)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
