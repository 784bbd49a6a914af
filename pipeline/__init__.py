"""Footage to events, one file per stage: knows files and time."""
