"""Detection: one match, many matches, and their result folders."""
