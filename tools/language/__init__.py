"""`touchline language` and `touchline chat`: learn the voice of a text, and talk in it."""
