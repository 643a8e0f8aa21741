"""Occlusion [zeiler2014visualizing]: what the logit loses when a window of the image is covered, through Captum."""

import torch
from captum.attr import Occlusion
from pydantic import PositiveInt
from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.methods import methods
from rapbench.methods.adapters.perturbed import answers


@methods.register("occlusion", title="Occlusion", signs=("positive", "negative"), passes=790)
def occlusion(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    window: PositiveInt = 15,
    stride: PositiveInt = 8,
    baseline: float = 0.0,
    batch: PositiveInt = 16,
) -> Tensor:
    """Return the logit's fall when a window is covered, at each pixel the mean over the windows that cover it.

    Parameters
    ----------
    model : nn.Module
        From (N, C, *space) to (N, classes) logits.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.
    window : int
        Its pixels along each dimension.
    stride : int
        Pixels from one window to the next, at most `window`.
    baseline : float
        What the window is covered with, in the network's input space, in all channels.
    batch : int
        Covered images in one forward pass. It limits the memory.

    Returns
    -------
    Tensor, shaped like `inputs`
        Relevance, the same in all channels.

    Raises
    ------
    RapbenchError
        For inputs without spatial dimensions or smaller than the window, and for a stride beyond the window.
    """
    space = tuple(inputs.shape[2:])
    if not space or min(space) < window:
        raise RapbenchError(
            f"occlusion covers windows of {window} pixels a side, got inputs of shape {tuple(inputs.shape)}; set window"
        )
    if stride > window:
        raise RapbenchError(f"occlusion with stride={stride} would leave pixels out between windows of {window}")
    method = Occlusion(answers(model))
    found = [
        method.attribute(
            image,
            sliding_window_shapes=(inputs.shape[1], *[window] * len(space)),
            strides=(inputs.shape[1], *[stride] * len(space)),
            baselines=baseline,
            additional_forward_args=(target,),
            perturbations_per_eval=batch,
        )
        for image, target in zip(inputs.split(1), targets.split(1), strict=True)
    ]
    return torch.cat(found).to(inputs.dtype)
