"""Models that a user's own functions and classes build: `my_module:build`, with their settings."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from rapbench.core.errors import RapbenchError, raised
from rapbench.core.limits import out_of_memory
from rapbench.core.tensors import what_is
from rapbench.model import Model

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

    Its options are those of the function, and SETTINGS. It is called with torch's generator seeded by 0. Raises
    RapbenchError for a function that cannot be called without arguments.
    """
    if isinstance(function, nn.Module):
        raise RapbenchError(f"{place} is a module; name a function that returns it, or its class")
    options = _options(place, function)
    names = frozenset(options)

    def build(**given: Any) -> Model:
        own = {name: value for name, value in given.items() if name in names}
        stated = {name: value for name, value in given.items() if name not in names and value is not None}
        try:
            # A sweep's jobs and shards each call it: weights that it draws must be the same in every process.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                made = function(**own)
        except Exception as error:  # a user's code raises what it likes
            if out_of_memory(error) or isinstance(error, RapbenchError):
                raise
            raise RapbenchError(f"{place} fails: {raised(error)}") from error
        if isinstance(made, Model):
            if stated:
                raise RapbenchError(f"{place} returns a Model, which states its own {', '.join(stated)}; set it there")
            return _asked(made, place, own)
        if not isinstance(made, nn.Module):
            raise RapbenchError(f"{place} must return an nn.Module or a rapbench.Model, it returns {what_is(made)}")
        return _asked(Model(made, name=place, **stated), place, given)

    parameters = options | {
        name: inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in SETTINGS.items()
        if name not in options
    }
    build.__module__, build.__name__, build.__doc__ = function.__module__, place, inspect.getdoc(function)
    vars(build)["__signature__"] = inspect.Signature(list(parameters.values()))
    return build


def _asked(model: Model, place: str, given: dict[str, Any]) -> Model:
    """Note in a model's facts how the command line names it."""
    options = [f" --option '{name}={value}'" for name, value in given.items() if value is not None]
    model.facts = replace(model.facts, asked=place + "".join(options))
    return model


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
