"""What a block of code asks of torch: its collectives, and the shapes of its operations."""

from collections import Counter
from contextlib import contextmanager

from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# TorchTPU has no send, recv, gather, scatter, reduce or coalesced forms, and none of objects.
OF_A_TPU = {"allreduce_", "broadcast_", "allgather_", "_allgather_base_", "_reduce_scatter_base_"}
OF_A_TPU |= {"alltoall_base_", "barrier", "all_reduce", "all_gather_into_tensor", "wait_tensor"}
OF_A_TPU |= {"reduce_scatter_tensor", "all_to_all_single", "broadcast"}


class Recorded(TorchDispatchMode):
    """Counts collectives by name, and those with parts of unequal sizes. `steps` holds the
    operations and shapes of each block under `step`."""

    def __init__(self):
        super().__init__()
        self.collectives, self.uneven = Counter(), 0
        self.steps, self._step = [], None

    @contextmanager
    def step(self):
        self._step = []
        yield
        self.steps.append(self._step)
        self._step = None

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(issubclass(one, DTensor) for one in types):
            return NotImplemented  # what it does with its parts is what counts
        space, _, name = func._schema.name.partition("::")
        if "c10d" in space:
            self.collectives[name] += 1
            self.uneven += name == "alltoall_base_" and bool(args[3] or args[4])
        found = func(*args, **(kwargs or {}))
        if self._step is not None and not name.startswith("_record_function"):
            tensors = [x for x in tree_leaves((args, found)) if isinstance(x, Tensor)]
            self._step.append((name, *(tuple(x.shape) for x in tensors)))
        return found
