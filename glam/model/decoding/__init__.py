"""Writing tokens with a model: decoders, which keep keys and values, and how tokens are chosen."""
