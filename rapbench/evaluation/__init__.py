"""Runs: cells of model x data x method x protocol, computed in chunks and kept in a store."""
