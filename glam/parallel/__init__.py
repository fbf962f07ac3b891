"""How a model lies on many devices: a table beside it, never inside it."""
