"""Label files in and out, and the split by match."""
