"""Grids of runs: the processes, the table one watches, and what is left in the end."""
