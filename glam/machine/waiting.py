"""A limit on waiting for other processes and machines, which says what it waited for."""

import contextlib
import os
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager

from glam.log import log
from glam.progress import stage

SECONDS = 600.0  # as NCCL has it; a scheduler starts the nodes of a job within a minute or two


@contextmanager
def limited(what: str, way_out: str, seconds: float | None = None) -> Generator[None]:
    """Ends the process, with a line and exit status 1, where the block takes longer than `seconds`
    (SECONDS): whoever waits inside a library's C code hears nothing else. Before anything was
    begun that could be lost."""
    limit = SECONDS if seconds is None else seconds
    timer = threading.Timer(limit, _give_up, [f"waited {limit:g} s for {what}; {way_out}"])
    timer.daemon = True
    timer.start()
    try:
        with stage(f"waiting for {what}"):
            yield
    finally:
        timer.cancel()


def _give_up(words: str) -> None:
    if os.environ.get("LOCAL_RANK", "0") == "0":  # one of each node, whatever else is silent
        with contextlib.redirect_stderr(sys.__stderr__):
            log.error(words)
    os._exit(1)
