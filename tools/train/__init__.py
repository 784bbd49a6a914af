"""The command `touchline train`."""
