"""Engines, which train a model: one device, processes of torch (FSDP2 and expert parallelism), XLA
SPMD."""
