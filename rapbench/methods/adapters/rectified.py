"""Backpropagation with a rule of its own at each ReLU, through Captum."""

import warnings

from captum.attr import Deconvolution, GuidedBackprop
from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.methods.adapters.module_graph import affine, hookable, of

# No activations: the gradient is taken as it is.
DIFFERENTIABLE = (
    nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd, nn.LayerNorm, nn.GroupNorm,
    nn.LocalResponseNorm, nn.modules.instancenorm._InstanceNorm,
)  # fmt: skip


class ClampedReLU(nn.Module):
    """ReLU6 with a ReLU that Captum finds."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return min(max(x, 0), 6)."""
        rectified: Tensor = self.relu(x)
        return rectified.clamp(max=6)


def rectified(
    captum: type[GuidedBackprop | Deconvolution], model: nn.Module, inputs: Tensor, targets: Tensor, method: str
) -> Tensor:
    """Return the gradient that `captum` changes at each ReLU, shaped like `inputs`.

    Raises RapbenchError for an activation other than ReLU and ReLU6, for a model without any, and for an operation
    that is not known to be free of activations.
    """
    network = hookable(model, inputs, method, "networks whose only activations are ReLU and ReLU6", _stand_in)
    if not any(isinstance(module, nn.ReLU) for module in network.modules()):
        raise RapbenchError(
            f"{method} is the gradient, changed at each ReLU, and {type(model).__name__} has none; use sensitivity "
            "for its gradient"
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Setting backward hooks")  # they are on our graph
        attribution: Tensor = captum(network).attribute(inputs.requires_grad_(), additional_forward_args=targets)
    return attribution.detach()


def _stand_in(module: nn.Module) -> nn.Module | None:
    if type(module) is nn.ReLU6:
        return ClampedReLU()
    return module if affine(module) or type(module) is nn.ReLU or of(module, DIFFERENTIABLE) else None
