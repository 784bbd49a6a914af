"""Options of `touchline ask` and `touchline commentate`."""

DEFAULT_STYLE = "plain"
MOST_QUOTES = 5
