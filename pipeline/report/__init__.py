"""The pages to look at."""
