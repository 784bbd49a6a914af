"""The commands `touchline bench ...`."""
