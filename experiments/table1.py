"""The paper's Table I: accuracy and prediction score under removal and shuffling. Takes Hydra overrides."""

import sys

from rapbench.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", "experiment=table1", *sys.argv[1:]]))
