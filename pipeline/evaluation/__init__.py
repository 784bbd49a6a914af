"""Compare predicted events with labels: metrics, confidence intervals, kinds of error."""
