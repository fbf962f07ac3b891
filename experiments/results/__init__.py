"""`python -m experiments.results`: every study again, and every table and figure made of it."""
