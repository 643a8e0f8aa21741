"""Integrated gradients [sundararajan2017ig], through Captum.

The paper's software takes 64 steps from a zero reference, times the difference; Captum places the steps by
Gauss-Legendre quadrature, which comes closer to the integral than equal steps do.
"""

from typing import Literal

import torch
from captum.attr import IntegratedGradients
from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.methods.adapters.target import explained


@methods.register("integrated_gradients", title="Integrated Gradients", signs=("positive", "negative"), passes=148)
def integrated_gradients(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    steps: int = 64,
    baseline: float = 0.0,
    quadrature: Literal["gausslegendre", "riemann_right", "riemann_left", "riemann_middle", "riemann_trapezoid"] =
        "gausslegendre",
    batch: int = 16,
) -> Tensor:  # fmt: skip
    """Return (x - baseline) times the mean gradient on the straight path between them.

    Parameters
    ----------
    model : nn.Module
        From (N, C, *space) to (N, classes) logits.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.
    steps : int
        Points on the path.
    baseline : float
        The reference's value in the network's input space.
    quadrature : str
        How the points are placed and weighted, by Captum's names.
    batch : int
        Points in one forward pass. It limits the memory, whatever `steps` is.

    Returns
    -------
    Tensor, shaped like `inputs`
        Relevance.
    """
    attribution: Tensor = IntegratedGradients(explained(model, inputs)).attribute(
        inputs,
        baselines=torch.full_like(inputs, baseline),
        additional_forward_args=targets,
        n_steps=steps,
        method=quadrature,
        internal_batch_size=max(batch, len(inputs)),
    )
    return attribution.detach().to(inputs.dtype)
