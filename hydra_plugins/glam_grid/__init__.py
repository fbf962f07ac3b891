"""The sweeper `grid`, where Hydra looks for plugins."""
