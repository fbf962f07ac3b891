"""What trains a model: one device, processes of torch (FSDP2, expert parallelism), XLA SPMD."""
