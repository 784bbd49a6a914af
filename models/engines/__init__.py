"""Engines: what the trunk of a network runs on. PyTorch, or another runtime that is faster here."""
