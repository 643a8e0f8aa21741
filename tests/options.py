"""Options for small inputs and little time: the defaults of some entries are for images of 224 pixels a side."""

from collections.abc import Iterable
from typing import Any

import pytest

from rapbench.methods import methods
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
# Methods for vision transformers alone: tests/test_class_activation.py, tests/test_transformers.py.
FOR_TRANSFORMERS = ("attention_rollout", "chefer", "legrad")
# Methods that run on the relevance engine, which accounts for every layer.
PROPAGATED = [name for name in methods if "balance" in methods[name].options]
# Methods whose code but for a formula is that of another, which is tested in their place where time is short.
ALIKE = {
    "lrp_a2b1": "lrp_a1b0", "lrp_alpha_beta": "lrp_a1b0", "lrp_preset_a": "lrp_preset_b",
    "lrp_epsilon_plus": "lrp_preset_b", "lrp_epsilon_alpha2_beta1": "lrp_preset_b",
    "lrp_epsilon_alpha2_beta1_flat": "lrp_epsilon_plus_flat", "lrp": "lrp_preset_b",
    "smoothgrad_squared": "smoothgrad", "vargrad": "smoothgrad", "deconvolution": "guided_backprop",
    "grad_cam_plusplus": "layer_cam", "xgrad_cam": "layer_cam", "smooth_grad_cam_plusplus": "layer_cam",
    "deeplift_shap": "deeplift", "kernel_shap": "lime", "shapley_sampling": "feature_ablation",
    "pattern_net": "pattern_attribution",
}  # fmt: skip


def mostly_quick(names: Iterable[str]) -> list[Any]:
    """Return methods as parameters of a test, those that are `ALIKE` as slow ones. A new method is tested quickly."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in ALIKE else name for name in names]


# By method: fewer samples, in batches smaller than they are, and regions that a small input has.
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
