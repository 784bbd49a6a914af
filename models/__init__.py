"""Networks and their weights: knows tensors, never a video file."""
