"""The paper's Table I: accuracy and prediction score under removal and shuffling. Takes Hydra overrides."""

import sys

import _make

from rapbench.app.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", "experiment=table1", *_make.overrides(), *sys.argv[1:]]))
