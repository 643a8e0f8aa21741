"""Smooth Grad-CAM++ [omeiza2019smooth]: Grad-CAM++ with derivatives averaged over noisy copies, through torchcam."""

from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.methods.adapters.class_activation import SmoothPlusPlus, class_activation


@methods.register("smooth_grad_cam_plusplus", title="Smooth Grad-CAM++", signs=("positive",), passes=6.3, random=True)
def smooth_grad_cam_plusplus(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    layer: str | None = None,
    samples: PositiveInt = 4,
    noise: NonNegativeFloat = 0.15,
    seeds: Tensor | None = None,
) -> Tensor:
    """Return the weighted sum of a layer's channels, with weights from noisy copies, interpolated to the image.

    Parameters
    ----------
    model : nn.Module
        From (N, C, *space) to (N, classes) logits.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.
    layer : str
        The layer's name in the model; None for its last feature map.
    samples : int
        Noisy copies of each image.
    noise : float
        Standard deviation of the noise, as a share of the image's maximum - minimum.
    seeds : Tensor, (N,)
        One per image; they seed the noise.

    Returns
    -------
    Tensor, shaped like `inputs`
        0 or more, the same in all channels.

    Raises
    ------
    RapbenchError
        For a model without a feature map, and for a name that is no layer's.
    """
    assert seeds is not None
    return class_activation(
        SmoothPlusPlus,
        model,
        inputs,
        targets,
        layer,
        "smooth_grad_cam_plusplus",
        samples=samples,
        noise=noise,
        seeds=seeds,
    )
