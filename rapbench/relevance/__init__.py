"""Relevance propagation: a model as a graph of modules, one rule an operation, both of RAP's flows."""

from rapbench.relevance.engine import FLOWS, Balance, Network
from rapbench.relevance.rules import Options, Step, rule

__all__ = ["FLOWS", "Balance", "Network", "Options", "Step", "rule"]
