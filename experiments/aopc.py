"""Region perturbation: AOPC of Table I's methods (Samek et al. 2017). Takes what `rapbench figure aopc` takes."""

import sys

from rapbench.app.cli import main

if __name__ == "__main__":
    sys.exit(main(["figure", "aopc", *sys.argv[1:]]))
