"""What every other room stands on: errors, console, files, random numbers, devices."""

from rapbench.core import package

__all__ = ["package"]  # imported first of all: it tells when the others were
