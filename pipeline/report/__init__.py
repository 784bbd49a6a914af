"""The HTML pages: one per match, and one that lists every match of a run."""
