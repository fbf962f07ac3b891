"""How far a task is, told to whoever shows the bar: in this process, or from a worker to the
process that started it."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from glam.machine.resources import num_cores

_hear: Callable[[int], None] | None = None
_is_worker = False


def advance(by: int) -> None:
    """So much more of the task is done, in the unit of its `StageTask.size`."""
    if _hear is not None:
        _hear(by)


def threads() -> int:
    """Threads that a task may use: one beside other workers, else all the cores."""
    return 1 if _is_worker else num_cores()


@contextmanager
def heard_by(hear: Callable[[int], None], *, is_worker: bool) -> Generator[None]:
    """Sends what tasks tell to `hear`, until the end of the block."""
    global _hear, _is_worker
    before = _hear, _is_worker
    _hear, _is_worker = hear, is_worker
    try:
        yield
    finally:
        _hear, _is_worker = before


def as_worker(task: Callable[[], object]) -> None:
    """Do a task beside others, where nobody hears how far it is."""
    with heard_by(lambda _: None, is_worker=True):
        task()
