"""Models that a user's own functions and classes build: `my_module:build`, with their settings."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from rapbench.errors import RapbenchError
from rapbench.model import Model
from rapbench.tensors import what_is

# What a bare nn.Module needs to be a Model; a function that has one of these settings itself is given it.
SETTINGS: dict[str, Any] = {
    "mean": list[float] | float | None,
    "std": list[float] | float | None,
    "size": int | list[int] | None,
    "class_names": list[str] | str | None,
}
PLAIN = (type(None), bool, int, float, str, list, tuple, dict)  # values that a configuration can hold


def building(place: str, function: Callable[..., Any]) -> Callable[..., Model]:
    """Return what calls a user's function and makes a Model of the module that it returns.

    Its options are those of the function, and SETTINGS. Raises RapbenchError for a function that cannot be called
    without arguments.
    """
    options = _options(place, function)

    def build(**given: Any) -> Model:
        own = {name: value for name, value in given.items() if name in options}
        stated = {name: value for name, value in given.items() if name not in options and value is not None}
        made = function(**own)
        if isinstance(made, Model):
            if stated:
                raise RapbenchError(f"{place} returns a Model, which states its own {', '.join(stated)}; set it there")
            return made
        if not isinstance(made, nn.Module):
            raise RapbenchError(f"{place} must return an nn.Module or a rapbench.Model, it returns {what_is(made)}")
        return Model(made, name=place, **stated)

    parameters = options | {
        name: inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in SETTINGS.items()
        if name not in options
    }
    build.__module__, build.__name__, build.__doc__ = function.__module__, place, inspect.getdoc(function)
    vars(build)["__signature__"] = inspect.Signature(list(parameters.values()))
    return build


def _options(place: str, function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return a function's parameters that are settings, by keyword: those with a default that a configuration holds."""
    try:
        parameters = inspect.signature(function, eval_str=True).parameters.values()
    except Exception as error:  # annotations of a user's own may say anything
        raise RapbenchError(f"{place} cannot be called: its parameters are not known ({error})") from error
    found = {}
    for it in parameters:
        if it.kind in (it.VAR_POSITIONAL, it.VAR_KEYWORD):
            continue
        if it.default is it.empty:
            raise RapbenchError(f"{place} needs a value for {it.name}; give the parameter a default")
        if isinstance(it.default, PLAIN) and it.kind is not it.POSITIONAL_ONLY:
            annotation = Any if it.annotation is it.empty else it.annotation
            found[it.name] = it.replace(kind=it.KEYWORD_ONLY, annotation=annotation)
    return found
