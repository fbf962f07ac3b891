"""Self-attention with a relative position bias, and its implementations by device."""
