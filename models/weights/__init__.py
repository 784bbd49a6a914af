"""Pretrained weights: the table of them, their download, the cache, and safe reading."""
