"""Gaussian blur of any number of dimensions."""

import torch
from torch import Tensor
from torch.nn.functional import conv1d


def gaussian_blur(images: Tensor, sigma: float, kernel: int | None = None) -> Tensor:
    """Return the images blurred by a Gaussian along every spatial dimension.

    Parameters
    ----------
    images : Tensor, (N, C, *space)
        Mirrored beyond the border, several times if needed.
    sigma : float
        Standard deviation in pixels.
    kernel : int, odd
        Width in pixels; None: it is cut off at 4 sigma.

    Returns
    -------
    Tensor, (N, C, *space)
    """
    reach = round(4 * sigma) if kernel is None else kernel // 2
    places = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    weights = torch.exp(-0.5 * (places / sigma) ** 2)
    weights = (weights / weights.sum()).view(1, 1, -1)
    for axis in range(2, images.dim()):
        lines = images.movedim(axis, -1)
        mirrored = lines[..., _mirrored(lines.shape[-1], reach, images.device)]
        blurred = conv1d(mirrored.reshape(-1, 1, mirrored.shape[-1]), weights)
        images = blurred.view(lines.shape).movedim(-1, axis)
    return images


def _mirrored(length: int, reach: int, device: torch.device) -> Tensor:
    """Return the places 0 to length - 1 with `reach` more at each end, mirrored at the first and the last."""
    period = max(1, 2 * (length - 1))
    places = torch.arange(-reach, length + reach, device=device) % period
    return torch.where(places < length, places, period - places)
