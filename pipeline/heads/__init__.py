"""Heads fitted on frozen features: candidates compared by cross-validation over matches."""
