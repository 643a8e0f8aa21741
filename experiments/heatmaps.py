"""The paper's Figures 1, 4, 5, 6 and 9: images by methods by models. Takes what `rapbench figure heatmaps` takes."""

import sys

from rapbench.app.cli import main

if __name__ == "__main__":
    sys.exit(main(["figure", "heatmaps", *sys.argv[1:]]))
