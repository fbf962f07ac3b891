"""The machine that a run has: cores, memory, devices, energy counters, processes. No torch."""
