"""Lines for the user while a command runs, on standard error, between progress bars."""

import sys

from tqdm import tqdm


def say(line: str) -> None:
    """Print a line without breaking a progress bar."""
    tqdm.write(line, file=sys.stderr)
