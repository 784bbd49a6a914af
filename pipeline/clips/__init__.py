"""Footage cut to what a network sees: sliding windows, labelled clips, views."""
