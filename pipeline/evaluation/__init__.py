"""Events compared with labels: metrics, confidence intervals, kinds of error."""
