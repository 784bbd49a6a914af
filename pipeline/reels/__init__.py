"""Clips and reels as MP4, and single pictures."""
