"""Options for small inputs: the defaults of some protocols are for images of 224 pixels a side."""

from typing import Any

from rapbench.protocols import protocols


def with_regions(**options: Any) -> dict[str, dict[str, Any]]:
    """Return the options for each registered protocol that replaces regions, by its name."""
    return {name: options for name in protocols if {"size", "steps"} <= set(protocols[name].options)}
