"""Read the match clock from the scoreboard in the picture."""
