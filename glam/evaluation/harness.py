"""lm-eval and the Hugging Face hub kept in bounds: silent, and not asked where they cannot
answer."""
# lm-eval has types in part, and no stubs.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false

import contextlib
import functools
import importlib
import logging
import os
import random
import statistics
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

from glam.errors import UserError, first_line
from glam.log import log

HUB_SECONDS = 4.0  # that the hub has to answer in, before it counts as out of reach


class MissingDataError(UserError):
    """The data of a task cannot be had: one clause."""


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """Without lm-eval's own bars and remarks, while tasks are made and judged."""
    import datasets
    import lm_eval.api.metrics as metrics
    import lm_eval.api.task as tasks

    logger = logging.getLogger("lm_eval")
    level, bar, has_bars = logger.level, tasks.tqdm, datasets.is_progress_bar_enabled()
    bootstrap = metrics.bootstrap_stderr
    logger.setLevel(logging.ERROR)
    tasks.tqdm, metrics.bootstrap_stderr = _plain, bootstrap_error
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        tasks.tqdm, metrics.bootstrap_stderr = bar, bootstrap
        if has_bars:
            datasets.enable_progress_bars()


def _plain(items: Iterable[Any], **_: Any) -> Iterable[Any]:
    return items


def bootstrap_error(
    metric: Callable[[list[Any]], float], items: Sequence[Any], iters: int
) -> float:
    """Standard error of a metric that is no mean: its deviation over items that are drawn again,
    as many, with replacement. (lm-eval's own starts processes for it, and prints.)"""
    draws = random.Random(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a draw that lacks a class
        found = [metric(draws.choices(items, k=len(items))) for _ in range(iters)]
    return statistics.stdev(found)


@contextlib.contextmanager
def data_from(folder: str | None) -> Generator[None]:
    """Whatever lm-eval's tasks ask `datasets.load_dataset` for is read by `load_data`."""
    import datasets

    load = datasets.load_dataset

    def load_instead(path: str, name: str | None = None, **options: Any) -> Any:
        return load_data(path, name, folder, load=load, **options)

    datasets.load_dataset = load_instead
    try:
        yield
    finally:
        datasets.load_dataset = load


def load_data(
    path: str, name: str | None, folder: str | None, *, load: Any = None, **options: Any
) -> Any:
    """The data set `path` of the hub, in its configuration `name`: from `folder`, where it lies in
    the hub's layout (`<folder>/allenai/ai2_arc/ARC-Easy/test….parquet`), or from the hub, or from
    what an earlier look at the hub left in its cache. Raises MissingDataError."""
    import datasets

    load = load or datasets.load_dataset
    is_reached = folder is None and hub_is_reached()
    try:
        if folder is not None:
            return load(*_place(Path(folder).expanduser(), path, name), **options)
        return load(path, name, **options)
    except MissingDataError:
        raise
    except Exception as error:
        logging.getLogger(__name__).debug("%s", error)
        asked = path if name is None else f"{path} ({name})"
        if folder is not None:
            why = f"cannot be read from {folder} ({first_line(error)})"
        elif is_reached:
            why = f"cannot be had from the hub ({first_line(error)})"
        else:
            why = "is not in the cache, and the hub is out of reach"
        way = "" if folder else "; evaluation.data_dir=<folder> reads a copy"
        raise MissingDataError(f"its data, {asked}, {why}{way}") from None


def _place(folder: Path, path: str, name: str | None) -> tuple[str, str | None]:
    """Folder and configuration for `load_dataset`."""
    places = (folder / path, folder / path.rpartition("/")[2])
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise MissingDataError(f"its data, {path}, is not in {folder} (no folder {path} in it)")
    if name is not None and (found / name).is_dir():
        return str(found / name), None
    return str(found), name if (found / "README.md").is_file() else None


@functools.cache
def hub_is_reached() -> bool:
    """Whether the hub answers. Where it does not, its libraries are told so: they would ask five
    times for every file."""
    import huggingface_hub

    if huggingface_hub.constants.is_offline_mode():
        return False
    try:
        endpoint = huggingface_hub.constants.ENDPOINT
        huggingface_hub.get_session().head(endpoint, timeout=HUB_SECONDS, follow_redirects=True)
        return True
    except Exception as error:
        log.info(f"the Hugging Face hub is out of reach ({first_line(error)})")
    for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        os.environ[variable] = "1"
    for module in ("huggingface_hub.constants", "datasets.config"):
        setattr(importlib.import_module(module), "HF_HUB_OFFLINE", True)  # noqa: B010
    return False
