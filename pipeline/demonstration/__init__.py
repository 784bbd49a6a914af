"""Rendered matches, and the demo that runs the whole chain on them."""
