"""The bench commands."""
