"""The commands that work on finished results."""
