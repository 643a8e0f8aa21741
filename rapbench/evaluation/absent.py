"""Methods that a run can do without: where one cannot be used, the run goes on, and its results say why."""

from collections.abc import Callable, Collection, Iterable

from rapbench.core.console import say
from rapbench.core.errors import RapbenchError
from rapbench.evaluation.choice import Choice


class Absent:
    """Why for each optional method that cannot be used, before anything is computed.

    optional: the labels of those that may be lacking.
    """

    def __init__(self, optional: Collection[str]):
        self.optional = optional
        self.choices: dict[str, Choice] = {}
        self.reasons: dict[str, str] = {}

    def without(self, choices: Iterable[Choice], step: Callable[[Choice], Choice]) -> list[Choice]:
        """Return what a step makes of each choice, but for optional ones that it refuses.

        Raises RapbenchError where it refuses another one, and where none is left.
        """
        left = []
        for choice in choices:
            try:
                left.append(step(choice))
            except RapbenchError as error:
                if choice.label not in self.optional:
                    raise
                self.choices[choice.label], self.reasons[choice.label] = choice, str(error)
                say(f"skipped: {choice.label}: {error}")
        if not left:
            raise RapbenchError("; ".join(f"{label}: {reason}" for label, reason in self.reasons.items()))
        return left
