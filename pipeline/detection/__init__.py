"""The detect command: one match, many matches, and the folders they leave."""
