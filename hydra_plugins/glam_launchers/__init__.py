"""The launchers of grids, where Hydra looks for plugins."""
