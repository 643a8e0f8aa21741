"""Ready-made heatmaps: those that others computed, matched to a run's images by name, content or order."""

from rapbench.heatmaps.ready import Heatmaps, Matched

__all__ = ["Heatmaps", "Matched"]
