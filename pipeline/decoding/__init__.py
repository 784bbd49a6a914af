"""Footage to the frames that a player shows at given instants."""
