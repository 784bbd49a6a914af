"""Players by their photos: training, naming, and what is honestly unknown."""
