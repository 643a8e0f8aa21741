"""The paper's 3-D application: train on cubes of CT, evaluate and explain the first fold, draw Figure 8."""

import sys

import _make

from rapbench.app.cli import main

if __name__ == "__main__":
    for words in _make.luna16():
        if code := main(words):
            sys.exit(code)
