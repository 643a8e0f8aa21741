"""What a user can mend: one line that says what is wrong, where, and what to do."""


class RapbenchError(Exception):
    """Bad input or a missing resource. The console prints its text and exits with the code."""

    code = 2


class MethodError(RapbenchError):
    """A method that cannot be used on a model, or not on an image; other methods can."""


class Refused(BaseException):
    """Carries a RapbenchError past Hydra, which would print lines of its own about an Exception."""
