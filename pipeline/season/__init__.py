"""Many matches in one run: its lock, its journal, its workers."""
