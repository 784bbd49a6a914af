"""Train from a label file into a run folder."""
