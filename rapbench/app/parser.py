"""The command line's words: what is wrong with them is one line."""

import argparse
import textwrap
from typing import Any, NoReturn

from rapbench.app.option_help import WIDTH
from rapbench.core.console import tell
from rapbench.core.errors import RapbenchError


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, without the usage.

    Parameters
    ----------
    examples : str
        Commands, a line each, that stand below the options in the help.
    description : str, optional
        What the command does.
    **settings
        As argparse takes them.
    """

    def __init__(self, *, examples: str = "", description: str | None = None, **settings: Any):
        if examples:  # which argparse would run together
            settings |= {"epilog": f"examples:\n{examples}", "formatter_class": argparse.RawDescriptionHelpFormatter}
            description = textwrap.fill(description or "", WIDTH)
        super().__init__(description=description, **settings)

    def print_help(self, file: Any = None) -> None:
        """Print the help; RapbenchError where it cannot be written, which argparse passes over."""
        tell(self.format_help())

    def error(self, message: str) -> NoReturn:
        """Raise what the console prints."""
        raise RapbenchError(f"{message}; see {self.prog} --help")
