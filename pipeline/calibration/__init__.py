"""Temperature and thresholds, chosen on labelled footage."""
