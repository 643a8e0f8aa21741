"""KernelSHAP [lundberg2017unified]: Shapley values of regions by a weighted linear regression, through Captum."""

from captum.attr import KernelShap
from pydantic import PositiveInt
from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.methods.adapters.perturbed import of_regions
from rapbench.methods.adapters.superpixels import Regions


@methods.register("kernel_shap", title="KernelSHAP", signs=("positive", "negative"), passes=610, random=True)
def kernel_shap(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    samples: PositiveInt = 1000,
    segments: PositiveInt = 50,
    regions: Regions = "auto",
    baseline: float = 0.0,
    batch: PositiveInt = 16,
    seeds: Tensor | None = None,
) -> Tensor:
    """Return the Shapley value of each region by KernelSHAP's regression, at each of its elements.

    Parameters
    ----------
    model : nn.Module
        From (N, C, *space) to (N, classes) logits.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.
    samples : int
        Perturbed images that the regression is of.
    segments : int
        About how many regions an image is cut into.
    regions : str
        How it is cut: "slic", superpixels; "grid", boxes; "auto", superpixels for 2-D images of three channels.
    baseline : float
        What a region is replaced with, in the network's input space.
    batch : int
        Perturbed images in one forward pass. It limits the memory.
    seeds : Tensor, (N,)
        One per image; they seed the draws.

    Returns
    -------
    Tensor, shaped like `inputs`
        Relevance, the same in all of a region. Over the regions it sums to logit(inputs) - logit(baseline).

    Raises
    ------
    RapbenchError
        For superpixels of inputs with neither two nor three dimensions, and for an image of one region.
    """
    return of_regions(
        KernelShap, model, inputs, targets, segments=segments, regions=regions, baseline=baseline,
        batch=batch, seeds=seeds, n_samples=samples,
    )  # fmt: skip
