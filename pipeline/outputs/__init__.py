"""Results to files and back, and times as people and editors write them."""
