"""Training of networks on cubes, a fold at a time, and the figures over the folds. Needs the extra `luna16`."""
