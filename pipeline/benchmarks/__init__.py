"""Speed and transfer, measured as ratios within one run."""
