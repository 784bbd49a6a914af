"""Decode footage to the frames that a player shows at given times, and report its health."""
