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
    """Return (x - baseline) * mean gradient on the straight path, shaped like `inputs`.

    baseline: the reference's value in the network's input space. batch: path points per forward pass, which bounds the
    memory whatever `steps` is.
    """
    attribution = IntegratedGradients(explained(model, inputs)).attribute(
        inputs,
        baselines=torch.full_like(inputs, baseline),
        additional_forward_args=targets,
        n_steps=steps,
        method=quadrature,
        internal_batch_size=max(batch, len(inputs)),
    )
    return attribution.detach().to(inputs.dtype)
