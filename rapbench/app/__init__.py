"""The command line, Hydra and sweeps."""
