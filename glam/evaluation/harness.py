"""lm-eval's own voice, which ours takes the place of."""

import contextlib
import logging
from collections.abc import Generator, Iterable
from typing import Any


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """Without lm-eval's own bars and remarks, while tasks are made and judged."""
    import lm_eval.api.task as tasks

    logger = logging.getLogger("lm_eval")
    level, bar = logger.level, tasks.tqdm
    logger.setLevel(logging.ERROR)
    tasks.tqdm = _plain
    try:
        yield
    finally:
        logger.setLevel(level)
        tasks.tqdm = bar


def _plain(items: Iterable[Any], **_: Any) -> Iterable[Any]:
    return items
