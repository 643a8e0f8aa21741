"""The paper's Figure 8: slices of volumes with RAP's flows. Takes what `rapbench figure figure8` takes."""

import sys

from rapbench.app.cli import main

if __name__ == "__main__":
    sys.exit(main(["figure", "figure8", *sys.argv[1:]]))
