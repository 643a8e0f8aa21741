"""Lines for the user: notes while a command runs, on standard error, and what a command says, on standard output."""

import os
import sys
from typing import Any

from tqdm import tqdm

from rapbench.core.errors import RapbenchError


def say(line: str) -> None:
    """Print a line on standard error without breaking a progress bar."""
    tqdm.write(line, file=sys.stderr)


def tell(text: str) -> None:
    """Print a text on standard output, at once. A reader that has gone, such as head, is no error.

    Raises RapbenchError when standard output cannot be written.
    """
    try:
        print(text, end="" if text.endswith("\n") else "\n", flush=True)
    except BrokenPipeError:
        _discard(sys.stdout)
    except OSError as error:
        _discard(sys.stdout)
        raise RapbenchError(f"cannot write to standard output: {error.strerror or error}") from error


def printable() -> None:
    """Have what a terminal's encoding lacks printed as an escape, rather than end the program.

    Where standard error was closed by whoever started the program, what is written to it, such as progress, vanishes.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  for the whole program
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):  # a notebook's or a test's own may have none
            reconfigure(errors="backslashreplace")


def hang_up() -> None:
    """Write nothing more, also not at the program's end: the readers of its output have gone."""
    for stream in (sys.stdout, sys.stderr):
        _discard(stream)


def _discard(stream: Any) -> None:
    """Let whatever is written from here on vanish."""
    try:
        number = stream.fileno()
    except (AttributeError, OSError, ValueError):  # no file behind it
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
