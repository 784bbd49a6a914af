"""`touchline players`: learn players from photos, and name them."""
