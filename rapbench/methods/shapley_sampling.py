"""Shapley values of regions by sampled permutations [castro2009polynomial], through Captum."""

from captum.attr import ShapleyValueSampling
from pydantic import PositiveInt
from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.methods.adapters.perturbed import of_regions
from rapbench.methods.adapters.superpixels import Regions


@methods.register("shapley_sampling", title="Shapley sampling", signs=("positive", "negative"), passes=980, random=True)
def shapley_sampling(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    samples: PositiveInt = 25,
    segments: PositiveInt = 50,
    regions: Regions = "auto",
    baseline: float = 0.0,
    batch: PositiveInt = 16,
    seeds: Tensor | None = None,
) -> Tensor:
    """Return each region's mean contribution, when regions are put in, in random order, at each of its elements.

    Parameters
    ----------
    model : nn.Module
        From (N, C, *space) to (N, classes) logits.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.
    samples : int
        Permutations of the regions, each with a forward pass a region.
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
        ShapleyValueSampling, model, inputs, targets, segments=segments, regions=regions, baseline=baseline,
        batch=batch, seeds=seeds, n_samples=samples,
    )  # fmt: skip
