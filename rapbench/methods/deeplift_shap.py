"""DeepSHAP [lundberg2017unified]: DeepLIFT's rescale rule, averaged over references, through Captum."""

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.methods.adapters.references import references_for
from rapbench.methods.adapters.rescaled import rescaled


@methods.register("deeplift_shap", title="DeepSHAP", signs=("positive", "negative"), passes=61, random=True)
def deeplift_shap(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    references: PositiveInt = 8,
    baseline: float = 0.0,
    noise: NonNegativeFloat = 0.15,
    batch: PositiveInt = 8,
    seeds: Tensor | None = None,
) -> Tensor:
    """Return relevance by the rescale rule, its mean over references.

    Parameters
    ----------
    model : nn.Module
        From (N, C, *space) to (N, classes) logits.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.
    references : int
        How many each image is compared with.
    baseline : float
        What the references lie around, in the network's input space.
    noise : float
        The standard deviation of Gaussian noise on the references, as a share of the image's maximum - minimum.
    batch : int
        References at a time. It limits the memory.
    seeds : Tensor, (N,)
        One per image; they seed the noise.

    Returns
    -------
    Tensor, shaped like `inputs`
        Relevance. It sums to logit(inputs) - the mean of logit(reference).

    Raises
    ------
    RapbenchError
        For an operation that is neither affine nor an elementwise activation or max pooling.
    """
    assert seeds is not None
    found = []
    for image, target, seed in zip(inputs.split(1), targets.split(1), seeds.split(1), strict=True):
        total = torch.zeros_like(image)
        for some in references_for(image, seed, references, baseline, noise).split(batch):
            copies = image.expand_as(some).clone()
            relevance = rescaled(model, copies, some, target.expand(len(some)), "deeplift_shap")
            total += relevance.sum(0, keepdim=True)
        found.append(total / references)
    return torch.cat(found)
