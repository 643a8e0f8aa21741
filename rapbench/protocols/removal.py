"""Removal: every channel of the selected pixels becomes one value (the paper's Table I)."""

from torch import Tensor

from rapbench.protocols import protocols
from rapbench.protocols._fills import Fill, Normalisation, fill_values
from rapbench.protocols._pixels import ranked_pixels


@protocols.register("removal", kind="perturbation")
def removal(
    images: Tensor,
    order: Tensor,
    counts: Tensor,
    seeds: Tensor,
    *,
    fill: Fill = "image_min",
    normalisation: Normalisation | None = None,
) -> Tensor:
    """Return the images with each one's first `counts` pixels of `order` filled.

    images: (P, C, *space) preprocessed. order: (P, n) positions by rank, n at least the largest count. counts, seeds:
    (P,). normalisation: the (mean, std) of the channels, which `pixel_space_min` needs.
    """
    pixels = ranked_pixels(images, order, counts)
    fills = fill_values(images, fill, normalisation).flatten(1)[:, None]
    pixels.rows[pixels.places] = fills.expand(*pixels.places.shape, images.shape[1])
    return pixels.images()
