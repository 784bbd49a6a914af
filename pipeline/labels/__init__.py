"""Read, check, write and split labels."""
