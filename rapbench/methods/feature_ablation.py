"""Feature ablation: what the logit loses when a region is replaced, through Captum [kokhlikyan2020captum]."""

from captum.attr import FeatureAblation
from pydantic import PositiveInt
from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.methods.adapters.perturbed import of_regions
from rapbench.methods.adapters.superpixels import Regions


@methods.register("feature_ablation", title="Feature ablation", signs=("positive", "negative"), passes=47)
def feature_ablation(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    segments: PositiveInt = 50,
    regions: Regions = "auto",
    baseline: float = 0.0,
    batch: PositiveInt = 16,
) -> Tensor:
    """Return the logit's fall when each region is replaced, at each of its elements.

    Parameters
    ----------
    model : nn.Module
        From (N, C, *space) to (N, classes) logits.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.
    segments : int
        About how many regions an image is cut into.
    regions : str
        How it is cut: "slic", superpixels; "grid", boxes; "auto", superpixels for 2-D images of three channels.
    baseline : float
        What a region is replaced with, in the network's input space.
    batch : int
        Perturbed images in one forward pass. It limits the memory.

    Returns
    -------
    Tensor, shaped like `inputs`
        Relevance, the same in all of a region.

    Raises
    ------
    RapbenchError
        For superpixels of inputs with neither two nor three dimensions, and for an image of one region.
    """
    return of_regions(
        FeatureAblation, model, inputs, targets, segments=segments, regions=regions, baseline=baseline,
        batch=batch, seeds=None,
    )  # fmt: skip
