"""Removal: every channel of the selected pixels becomes one value (the paper's Table I)."""

from dataclasses import dataclass

from torch import Tensor

from rapbench.protocols import protocols
from rapbench.protocols.base.fills import NORMALISED, Fill, Normalisation, fill_values
from rapbench.protocols.base.perturbation import Perturbation
from rapbench.protocols.base.pixels import ranked_pixels


@protocols.register("removal")
@dataclass(frozen=True, kw_only=True)
class Removal(Perturbation):
    """Removal: all channels of the selected pixels are set to one value.

    Parameters
    ----------
    fill : {"image_min", "channel_min", "pixel_space_min", "mean", "zero"}
        That value, see `fill_values`.
    """

    fill: Fill = "image_min"

    @property
    def needs_normalisation(self) -> bool:
        """Whether the fill does."""
        return self.fill in NORMALISED

    def perturbed(
        self, images: Tensor, order: Tensor, counts: Tensor, seeds: Tensor, normalisation: Normalisation | None = None
    ) -> Tensor:
        """Return the images with each one's first `counts` pixels of `order` filled; arguments as in `Perturbation`."""
        pixels = ranked_pixels(images, order, counts)
        fills = fill_values(images, self.fill, normalisation).flatten(1)[:, None]
        pixels.rows[pixels.places] = fills.expand(*pixels.places.shape, images.shape[1])
        return pixels.images()
