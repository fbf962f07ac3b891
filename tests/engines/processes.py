"""Runs a function in several processes that find each other, as torchrun has them."""

import multiprocessing
import os
import socket
import sys
import traceback

PRELOADED = ["lightning", "glam.training", "glam.engines.fsdp", "toy"]
SECONDS = 600


def _enter(function, arguments, rank, size, port, failures):
    import torch.distributed as dist

    from glam import log

    ranks = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0}
    sizes = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
    os.environ |= {name: str(value) for name, value in (ranks | sizes | where).items()}
    log.configure()
    try:
        function(*arguments)
    except BaseException:
        failures.put(f"rank {rank}: {traceback.format_exc()}")
        failures.close()
        failures.join_thread()  # until it is written
        os._exit(1)  # the others wait for it
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def together(size, function, *arguments):
    """Raises AssertionError with what a process failed with."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    failures = context.Queue()
    made = [
        context.Process(target=_enter, args=(function, arguments, rank, size, port, failures))
        for rank in range(size)
    ]
    for process in made:
        process.start()
    for process in made:
        process.join(SECONDS)
    alive = [process for process in made if process.is_alive()]
    for process in alive:
        process.kill()
    said = []
    while not failures.empty():
        said.append(failures.get())
    assert not said, "\n".join(said)
    assert not alive, "processes wait for each other"
    print(f"{size} processes are done", file=sys.stderr)
