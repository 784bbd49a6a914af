"""Footage that is still going on: streams, growing files, events as soon as they are final."""
