"""What a user can mend: one line that says what is wrong, where, and what to do."""


class RapbenchError(Exception):
    """Bad input or a missing resource. The console prints its text and exits with the code."""

    code = 2
