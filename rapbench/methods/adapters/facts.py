"""What is to be known of a method beside its function, checked when it is registered."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, get_type_hints

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from rapbench.core.errors import RapbenchError, did_you_mean
from rapbench.core.signs import Sign

LONGEST = 60  # characters of a title, which heads a table's row


def _different(signs: tuple[Sign, ...]) -> tuple[Sign, ...]:
    if len(set(signs)) < len(signs):
        raise ValueError("a sign is given twice")
    return signs


def _in_one_line(title: str) -> str:
    if not title.isprintable() or title != title.strip():
        raise ValueError("it must be one line of printable characters, without blanks around them")
    return title


Signs = Annotated[tuple[Sign, ...], Field(min_length=1), AfterValidator(_different)]
Title = Annotated[str, Field(max_length=LONGEST), AfterValidator(_in_one_line)]


@dataclass(frozen=True, kw_only=True)
class MethodFacts:
    """Metadata of a method; each field is a keyword of `rapbench.register_method`.

    Parameters
    ----------
    signs : tuple of {"positive", "negative"}
        The signs of relevance that are evaluated: ("positive",) for a method whose relevance has no negative sign.
    passes : float
        The approximate cost per input in forward passes, for the progress bar.
    title : str
        The display name in tables and figures; the registered name if it is empty.
    looks_at_model : bool
        False for a control: the other methods are compared with it, and it gets no verdict.
    random : bool
        The method uses random numbers: it is given the keyword `seeds`, (N,) int64, one per input.
    files : mapping of str to callable
        For an option whose value leads to a file: (model, value) -> path. The file's content is a part of the result's
        key.

    Examples
    --------
    >>> rapbench.MethodFacts(signs=("positive",), passes=2)
    """

    signs: Signs = ("positive", "negative")
    passes: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    title: Title = ""
    looks_at_model: bool = True
    random: bool = False
    files: Mapping[str, Callable[..., Any]] = field(default_factory=dict)


_KINDS = {name: TypeAdapter(kind) for name, kind in get_type_hints(MethodFacts, include_extras=True).items()}
HINTS = {"signs": 'write signs=("positive", "negative") or signs=("positive",)'}


def facts_of(name: str, function: Any, stated: Mapping[str, Any]) -> MethodFacts:
    """Return a method's metadata.

    Raises
    ------
    RapbenchError
        For an unknown keyword or an invalid value, and for a function that cannot be called as a method.
    """
    for fact, value in stated.items():
        if fact not in _KINDS:
            known = ", ".join(each.name for each in fields(MethodFacts))
            raise RapbenchError(
                f"method {name!r}: register_method has no keyword {fact!r}{did_you_mean(fact, _KINDS)}; known: {known}"
            )
        try:
            _KINDS[fact].validate_python(value, strict=True)
        except ValidationError as error:
            wrong = error.errors()[0]["msg"].removeprefix("Value error, ")
            hint = f"; {HINTS[fact]}" if fact in HINTS else ""
            raise RapbenchError(f"method {name!r}: {fact}={value!r:.100}: {wrong}{hint}") from None
    facts = MethodFacts(**stated)
    _check_function(name, function, facts)
    return facts


def _check_function(name: str, function: Any, facts: MethodFacts) -> None:
    """Raise RapbenchError for a function that cannot be called with (model, inputs, targets), or lacks a keyword."""
    wrong = f"method {name!r} must be a function of (model, inputs, targets)"
    if not callable(function) or inspect.isclass(function):
        raise RapbenchError(f"{wrong}, got {function!r:.100}")
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        raise RapbenchError(f"{wrong}; that of {function!r:.100} cannot be read: write a function around it") from None
    parameters = signature.parameters.values()
    keywords = {each.name: each for each in parameters if each.kind is each.KEYWORD_ONLY}
    if lacking := [option for option, each in keywords.items() if each.default is each.empty]:
        raise RapbenchError(f"method {name!r}: option {lacking[0]!r} has no default; give it one")
    try:
        signature.bind(None, None, None)
    except TypeError as error:
        raise RapbenchError(f"{wrong}: {error}; what comes after a * is an option") from None
    if missing := [option for option in facts.files if option not in keywords]:
        known = ", ".join(keywords) or "none"
        raise RapbenchError(f"method {name!r}: files= names {missing[0]!r}, which is no option; its options: {known}")
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters)
    if facts.random and "seeds" not in keywords and not takes_any:
        raise RapbenchError(f"method {name!r}: random=True gives it seeds; add the keyword seeds=None after a *")
