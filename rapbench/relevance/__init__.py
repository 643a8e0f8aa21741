"""Relevance propagation: a model as a graph of modules, one rule an operation, any number of flows at once."""

from rapbench.relevance.engine import FLOWS, Balance, explain
from rapbench.relevance.network import Network
from rapbench.relevance.rules import RULES, Flow, Options, Rules, Step, divisor, rule

__all__ = ["FLOWS", "RULES", "Balance", "Flow", "Network", "Options", "Rules", "Step", "divisor", "explain", "rule"]
