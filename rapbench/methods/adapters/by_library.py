"""Methods that another library names: `LIBRARY:NAME` runs what it calls NAME, with its own keyword arguments.

A library is one file in `rapbench/methods/` that calls `offer`.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from rapbench.core.errors import RapbenchError, did_you_mean
from rapbench.methods import methods
from rapbench.methods.adapters.facts import MethodFacts
from rapbench.registry import Entry


@dataclass(frozen=True, kw_only=True)
class Offered:
    """What a library has under one name, as a method.

    Parameters
    ----------
    run : callable
        (model, inputs, targets, **options) -> relevance shaped like the inputs; it is given `seeds` as well where the
        facts say that it is random.
    options : mapping of str to object
        The options' default values. Those that are bool, int, float or str are of that type.
    facts : MethodFacts
        As of any method.
    about : str
        What `rapbench list methods LIBRARY:NAME` says of it.
    """

    run: Callable[..., Tensor]
    options: Mapping[str, Any] = field(default_factory=dict)
    facts: MethodFacts = field(default_factory=MethodFacts)
    about: str = ""


def offer(library: str, known: Callable[[], Iterable[str]], offered: Callable[[str], Offered]) -> None:
    """Let `library:NAME` be a method for each NAME that is known.

    Parameters
    ----------
    library : str
        The word before the colon.
    known : callable
        () -> the names. It may raise RapbenchError where the library is not installed.
    offered : callable
        A known name -> what it is.
    """

    def entry(name: str) -> Entry[MethodFacts]:
        wanted = name.partition(":")[2]
        names = sorted(known())
        if wanted not in names:
            hint = did_you_mean(wanted, names)
            raise RapbenchError(f"unknown method {name!r}{hint}; {library} has: {', '.join(names)}")
        found = offered(wanted)
        return Entry("method", name, _with_options(found, wanted), found.facts)

    methods.prefix(library, entry)


def _with_options(offered: Offered, name: str) -> Callable[..., Tensor]:
    """Return a function with the options as keyword-only parameters, as a registry reads them."""

    def run(model: Any, inputs: Tensor, targets: Tensor, **options: Any) -> Tensor:
        return offered.run(model, inputs, targets, **options)

    kinds = inspect.Parameter
    taken = [kinds(given, kinds.POSITIONAL_OR_KEYWORD) for given in ("model", "inputs", "targets")]
    options = [
        kinds(option, kinds.KEYWORD_ONLY, default=value, annotation=_type(value))
        for option, value in offered.options.items()
    ]
    run.__signature__ = inspect.Signature([*taken, *options])  # type: ignore[attr-defined]
    run.__name__, run.__doc__ = name, offered.about
    return run


def _type(value: Any) -> Any:
    return type(value) if isinstance(value, (bool, int, float, str)) else Any
