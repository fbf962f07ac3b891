"""Statistics over the tables of studies: paired differences, intervals, scaling laws. No torch."""
