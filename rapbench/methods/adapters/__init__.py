"""What methods share: checks of their arguments and models, and other libraries behind one call."""
