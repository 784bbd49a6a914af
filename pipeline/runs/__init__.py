"""The train command: a label file in, a run folder out."""
