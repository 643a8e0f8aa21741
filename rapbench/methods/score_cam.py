"""Score-CAM [wang2020scorecam]: channels weighted by the logit of what they leave of the image, through torchcam."""

from pydantic import PositiveInt
from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.methods.adapters.class_activation import Score, class_activation


@methods.register("score_cam", title="Score-CAM", signs=("positive",), passes=2050)
def score_cam(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    layer: str | None = None,
    batch: PositiveInt = 16,
) -> Tensor:
    """Return the positive part of the sum of a layer's channels, weighted by scores, interpolated to the image.

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
    batch : int
        Masked images in one forward pass. It limits the memory.

    Returns
    -------
    Tensor, shaped like `inputs`
        0 or more, the same in all channels.

    Raises
    ------
    RapbenchError
        For a model without a feature map, and for a name that is no layer's.
    """
    return class_activation(Score, model, inputs, targets, layer, "score_cam", batch_size=batch)
