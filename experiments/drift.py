"""`rapbench drift check` and `freeze`, on what the Makefile's settings say where nothing else is given."""

import sys

import _make

from rapbench.app.cli import main

if __name__ == "__main__":
    words = sys.argv[1:]
    sys.exit(main(["drift", *words, *(_make.drift(words[0]) if len(words) == 1 else [])]))
