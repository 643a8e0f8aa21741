"""Options for small inputs and little time: the defaults of some entries are for images of 224 pixels a side."""

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


_NOISY = {"samples": 3, "batch": 2}
_REGIONS = {"segments": 4, "regions": "grid", "batch": 8}
# By method: fewer samples, in batches smaller than they are, and regions that a small input has.
# Methods for vision transformers alone: tests/test_class_activation.py, tests/test_transformers.py.
FOR_TRANSFORMERS = ("attention_rollout", "chefer", "legrad")
QUICK_METHODS: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"steps": 3},
    "smoothgrad": _NOISY,
    "smoothgrad_squared": _NOISY,
    "vargrad": _NOISY,
    "smooth_grad_cam_plusplus": {"samples": 2},
    "deeplift_shap": {"references": 3, "batch": 2},
    "gradient_shap": {"samples": 3, "references": 2, "batch": 2},
    "occlusion": {"window": 8, "stride": 8},
    "feature_ablation": _REGIONS,
    "shapley_sampling": _REGIONS | {"samples": 2},
    "kernel_shap": _REGIONS | {"samples": 12},
    "lime": _REGIONS | {"samples": 12},
    "rise": {"samples": 6, "cells": 3, "batch": 4},
    "attnlrp": {"stabilizer": 0.1},
    "lrp_epsilon_gamma_box": {"box": "image"},
}
