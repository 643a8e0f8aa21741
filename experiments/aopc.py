"""Region perturbation: AOPC of Table I's methods (Samek et al. 2017). Takes Hydra overrides."""

import sys

from rapbench.app.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", "experiment=aopc", *sys.argv[1:]]))
