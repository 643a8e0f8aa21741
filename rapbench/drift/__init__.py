"""Drift: whether a run still gives the very results that a frozen baseline holds, image by image."""
