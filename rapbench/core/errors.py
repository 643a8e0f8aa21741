"""What a user can mend: one line that says what is wrong, where, and what to do."""

import traceback
from collections.abc import Iterable
from difflib import get_close_matches


class RapbenchError(Exception):
    """Bad input or a missing resource. The console prints its text and exits with the code."""

    code = 2


class MethodError(RapbenchError):
    """A method that cannot be used on a model, or not on an image; other methods can."""


class Refused(BaseException):
    """Carries a RapbenchError past Hydra, which would print lines of its own about an Exception."""


def raised(error: BaseException) -> str:
    """Return in one line what was raised, and where in the innermost file."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{': ' * bool(text)}{text}{where}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question, in brackets after a space, that names what is spelt nearly alike; nothing without any."""
    close = get_close_matches(name, sorted(known), n=3)
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""
