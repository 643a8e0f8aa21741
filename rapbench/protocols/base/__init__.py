"""What protocols share: their base class, the batch they are given, rankings, fills, metrics."""
