"""Windows through the network to a score track, and from there to events."""
