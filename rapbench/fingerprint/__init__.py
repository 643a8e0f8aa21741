"""Fingerprints of what a result depends on: code by import closure, package versions, a network's structure."""

from rapbench.fingerprint.code import Code, code_of
from rapbench.fingerprint.objects import Walk

__all__ = ["Code", "Walk", "code_of"]
