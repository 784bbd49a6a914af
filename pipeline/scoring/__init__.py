"""Score footage and clips with a model, and turn scores into events."""
