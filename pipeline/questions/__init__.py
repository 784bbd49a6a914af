"""Questions about the events of a match, answered from the events alone; a report in sentences."""
