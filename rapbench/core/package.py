"""The package itself: its name, its folder, and when it was imported."""

import time
from pathlib import Path

NAME = "rapbench"
FOLDER = Path(__file__).resolve().parents[1]
IMPORTED = time.time()  # a module whose file is younger may have been imported from another text
