"""Options for small inputs: the defaults of some protocols are for images of 224 pixels a side."""

from typing import Any

from rapbench.protocols import protocols


def small_options(**regions: Any) -> dict[str, dict[str, Any]]:
    """Return options that suit small inputs, by protocol; regions: of those that replace regions."""
    return with_regions(**regions) | {
        "road": {"shares": ["30%", "60%"]},
        "faithfulness_correlation": {"size": 9},
        "sensitivity_n": {"sizes": [1, "80%"]},
    }


def with_regions(**options: Any) -> dict[str, dict[str, Any]]:
    """Return the options for each registered protocol that replaces regions, by its name."""
    return {name: options for name in protocols if {"size", "steps"} <= set(protocols[name].options)}
