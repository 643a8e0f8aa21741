"""The paper's Figure 7: masks of removed pixels, and D_K. Takes what `rapbench figure figure7` takes."""

import sys

from rapbench.app.cli import main

if __name__ == "__main__":
    sys.exit(main(["figure", "figure7", *sys.argv[1:]]))
