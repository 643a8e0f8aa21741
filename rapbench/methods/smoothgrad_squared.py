"""SmoothGrad squared [hooker2019roar]: the mean of the squared gradient over noisy copies, through Captum."""

from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.methods.adapters.noisy import of_noisy_gradients


@methods.register("smoothgrad_squared", title="SmoothGrad squared", signs=("positive",), passes=120, random=True)
def smoothgrad_squared(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    samples: PositiveInt = 50,
    noise: NonNegativeFloat = 0.15,
    batch: PositiveInt = 8,
    seeds: Tensor | None = None,
) -> Tensor:
    """Return the mean of the squared gradient over noisy copies.

    Parameters
    ----------
    model : nn.Module
        From (N, C, *space) to (N, classes) logits.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.
    samples : int
        Copies of each image.
    noise : float
        Standard deviation of the noise, as a share of the image's maximum - minimum.
    batch : int
        Copies in one forward pass. It limits the memory.
    seeds : Tensor, (N,)
        One per image; they seed the noise.

    Returns
    -------
    Tensor, shaped like `inputs`
        0 or more.
    """
    return of_noisy_gradients(
        "smoothgrad_sq", model, inputs, targets, samples=samples, noise=noise, batch=batch, seeds=seeds
    )
