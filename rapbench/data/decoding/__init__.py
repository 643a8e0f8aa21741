"""Image files to network inputs, ahead of the model."""
