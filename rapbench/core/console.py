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
        raise _lost(error) from error


def flush_output() -> None:
    """Write out what others, such as Hydra and argparse, have printed.

    Raises RapbenchError when standard output cannot be written, and BrokenPipeError when its reader has gone.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _lost(error) from error


def printable() -> None:
    """Have what a terminal's encoding lacks printed as an escape, rather than end the program.

    Where standard error was closed by whoever started the program, what is written to it, such as progress, vanishes.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  for the whole program
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):  # a notebook's or a test's own may have none
            reconfigure(errors="backslashreplace")


def flush_or_discard(stream: Any) -> None:
    """Write out what is printed, after what went wrong has been said; what cannot be written vanishes.

    Raises BrokenPipeError when the reader has gone.
    """
    try:
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError:
        _discard(stream)


def _lost(error: OSError) -> RapbenchError:
    """Let the rest of standard output vanish; return what to say of it."""
    _discard(sys.stdout)
    return RapbenchError(f"cannot write to standard output: {error.strerror or error}")


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
