"""The paper's pictures at the size of print: heatmaps side by side, masks, and D_K. Nothing here needs a model."""
