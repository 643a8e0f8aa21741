"""RISE [petsiuk2018rise]: the mean of random masks, weighted by the class's probability behind each."""

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.core.random import keys_at, random_keys
from rapbench.methods import methods
from rapbench.methods.adapters.feature_maps import LINEAR

BITS = 53  # of a random key, which float64 holds exactly


@methods.register("rise", title="RISE", signs=("positive",), passes=3000, random=True)
def rise(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    samples: PositiveInt = 4000,
    cells: PositiveInt = 7,
    kept: float = 0.5,
    baseline: float = 0.0,
    batch: PositiveInt = 16,
    seeds: Tensor | None = None,
) -> Tensor:
    """Return the mean of masks times the target's probability for the masked image, over the share that is kept.

    Parameters
    ----------
    model : nn.Module
        From (N, C, *space) to (N, classes) logits. The probability is their softmax; of one logit, its sigmoid.
    inputs : Tensor, (N, C, *space)
        Preprocessed, with one to three dimensions.
    targets : Tensor, (N,)
        Class indices.
    samples : int
        Masks for each image.
    cells : int
        Along each dimension of a small random grid, which is interpolated to the image's size and shifted.
    kept : float
        The probability that a cell is kept.
    baseline : float
        What shows behind a mask, in the network's input space.
    batch : int
        Masked images in one forward pass. It limits the memory.
    seeds : Tensor, (N,)
        One per image; they seed the masks.

    Returns
    -------
    Tensor, shaped like `inputs`
        0 or more, the same in all channels.

    Raises
    ------
    RapbenchError
        For inputs without one to three spatial dimensions, and for a probability that is none.
    """
    assert seeds is not None
    space = tuple(inputs.shape[2:])
    if not 0 < kept <= 1:
        raise RapbenchError(f"method 'rise': kept={kept} is no probability above 0; set it above 0, at most 1")
    if len(space) not in LINEAR:
        raise RapbenchError(
            f"rise needs images of one to three dimensions, (N, C, *space), got inputs of shape {tuple(inputs.shape)}"
        )
    found = []
    with torch.no_grad():
        for image, target, seed in zip(inputs.split(1), targets.split(1), seeds.split(1), strict=True):
            keys = random_keys(seed, samples)[0]
            total = torch.zeros(space, device=inputs.device, dtype=torch.float64)
            for some in keys.split(batch):
                masks = masks_for(some, space, cells, kept).to(inputs.dtype)[:, None]
                logits = model(masks * image + (1 - masks) * baseline)
                weights = (logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1))[:, target].double()
                total += (weights.view(-1, *[1] * len(space)) * masks[:, 0]).sum(0)
            found.append((total / (samples * kept)).to(inputs.dtype).expand_as(image))
    return torch.cat(found)


def masks_for(seeds: Tensor, space: tuple[int, ...], cells: int, kept: float) -> Tensor:
    """Return smooth masks, (masks, *space), float64, from 0 to 1; seeds: (masks,)."""
    dimensions, corners = len(space), cells ** len(space)
    keys = keys_at(seeds, torch.arange(corners + dimensions, device=seeds.device)[None])
    uniform = ((keys >> (64 - BITS)) + 2 ** (BITS - 1)).double() / 2**BITS  # in [0, 1)
    grids = (uniform[:, :corners] < kept).double().view(-1, 1, *[cells] * dimensions)
    sizes = [-(-size // cells) for size in space]  # of a cell in pixels
    large = [(cells + 1) * size for size in sizes]
    smooth = F.interpolate(grids, large, mode=LINEAR[dimensions], align_corners=False)[:, 0]
    for place, (size, cell) in enumerate(zip(space, sizes, strict=True)):
        shifts = (uniform[:, corners + place] * cell).long()
        index = shifts[:, None] + torch.arange(size, device=seeds.device)
        shape = [len(seeds)] + [1] * dimensions
        shape[place + 1] = size
        smooth = smooth.gather(place + 1, index.view(shape).expand(*smooth.shape[: place + 1], size,
                                                                    *smooth.shape[place + 2 :]))  # fmt: skip
    return smooth
