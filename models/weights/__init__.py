"""Pretrained weights: the table, the downloads, the cache, safe reading."""
