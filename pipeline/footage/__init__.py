"""Footage as files: where they are, whether they can be opened, what their packets say."""
