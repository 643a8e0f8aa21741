"""GradientSHAP [erion2021improving]: gradients at random points between references and the image, through Captum."""

from captum.attr import GradientShap
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.methods.adapters.references import references_for
from rapbench.methods.adapters.seeded import seeded
from rapbench.methods.adapters.target import explained


@methods.register("gradient_shap", title="GradientSHAP", signs=("positive", "negative"), passes=12, random=True)
def gradient_shap(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    samples: PositiveInt = 5,
    references: PositiveInt = 8,
    baseline: float = 0.0,
    noise: NonNegativeFloat = 0.15,
    batch: PositiveInt = 16,
    seeds: Tensor | None = None,
) -> Tensor:
    """Return the mean of (x - reference) times the gradient at a random point between them.

    Parameters
    ----------
    model : nn.Module
        From (N, C, *space) to (N, classes) logits.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.
    samples : int
        Random points, each on the way from a reference that is drawn.
    references : int
        How many there are to draw from, for each image.
    baseline : float
        What the references lie around, in the network's input space.
    noise : float
        The standard deviation of Gaussian noise on the references, as a share of the image's maximum - minimum.
    batch : int
        Points in one forward pass. It limits the memory.
    seeds : Tensor, (N,)
        One per image; they seed all draws.

    Returns
    -------
    Tensor, shaped like `inputs`
        Relevance. On average over draws it sums to logit(inputs) - the mean of logit(reference).
    """
    assert seeds is not None
    method = GradientShap(explained(model, inputs))

    def explain(image: Tensor, target: Tensor, seed: Tensor) -> Tensor:
        drawn = references_for(image, seed, references, baseline, noise)
        shares = []
        for start in range(0, samples, batch):
            count = min(batch, samples - start)
            mean = method.attribute(image, drawn, n_samples=count, stdevs=0.0, additional_forward_args=(target,))
            shares.append(mean * (count / samples))
        total: Tensor = sum(shares[1:], shares[0])
        return total

    return seeded(explain, inputs, targets, seeds).to(inputs.dtype)
