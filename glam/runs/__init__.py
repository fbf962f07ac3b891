"""What lies on disk: run and study folders, identity, checkpoints and records."""
