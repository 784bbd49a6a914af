"""Choose the temperature and thresholds of a model on labelled footage."""
