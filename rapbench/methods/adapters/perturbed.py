"""Captum's methods that replace regions of an image and look at the answer; images one by one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rapbench.methods.adapters.seeded import seeded
from rapbench.methods.adapters.superpixels import Regions, regions_of
from rapbench.methods.adapters.target import target_logits


def answers(model: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """Return (inputs, targets) -> the targets' logits, without a gradient."""

    def answer(inputs: Tensor, targets: Tensor) -> Tensor:
        with torch.no_grad():
            return target_logits(model(inputs.clone()), targets)  # it may work in place on its input

    return answer


def of_regions(
    captum: type,
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    segments: int,
    regions: Regions,
    baseline: float,
    batch: int,
    seeds: Tensor | None,
    **options: Any,
) -> Tensor:
    """Return what one of Captum's methods says of each region, at each element of it, shaped like `inputs`.

    Parameters
    ----------
    captum : type
        The method's class.
    model : nn.Module
        From (N, C, *space) to (N, classes) logits.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.
    segments : int
        About how many regions an image is cut into.
    regions : str
        How it is cut: see `regions_of`.
    baseline : float
        What a region is replaced with, in the network's input space.
    batch : int
        Perturbed images in one forward pass. It limits the memory.
    seeds : Tensor, (N,)
        One per image, where the method draws.
    options
        The method's own, by Captum's names.
    """
    method = captum(answers(model))

    def explain(image: Tensor, target: Tensor, seed: Tensor) -> Tensor:
        found: Tensor = method.attribute(
            image,
            baselines=baseline,
            additional_forward_args=(target,),
            feature_mask=regions_of(image, segments, regions),
            perturbations_per_eval=batch,
            **options,
        )
        return found

    return seeded(explain, inputs, targets, torch.zeros_like(targets) if seeds is None else seeds).to(inputs.dtype)
