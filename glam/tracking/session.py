"""A session of wandb: opened without prompting, silent unless something fails."""

import netrc
import os
import re
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlsplit

from glam.config import LoggerConfig
from glam.errors import first_line
from glam.log import log
from glam.progress import stage

if TYPE_CHECKING:
    import wandb

Mode = Literal["online", "offline"]
INIT_SECONDS = 10.0  # a run does not wait longer than this for the network, at its start
FINISH_SECONDS = 60.0  # … nor at its end: `wandb sync` sends the rest


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An entry of W&B's list of runs: `group` gathers a study, `job_type` is `train` for a run and
    `study` for the study's own table."""

    id: str
    name: str
    group: str | None
    job_type: str
    tags: tuple[str, ...]
    config: dict[str, Any]


def is_wanted(logger: LoggerConfig) -> bool:
    """Whether the run is logged to W&B: neither WANDB_MODE nor WANDB_DISABLED forbids it."""
    is_off = os.environ.get("WANDB_DISABLED", "").strip().lower() in ("1", "true", "t", "yes", "on")
    return logger.name == "wandb" and os.environ.get("WANDB_MODE") != "disabled" and not is_off


def logged_in() -> bool:
    """Whether wandb has an API key, in the environment or in netrc; never prompts."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).netloc
    names = [os.environ["NETRC"]] if "NETRC" in os.environ else ["~/.netrc", "~/_netrc"]
    for name in names:
        try:
            known = netrc.netrc(Path(name).expanduser()).authenticators(host)
        except (OSError, RuntimeError, netrc.NetrcParseError):  # RuntimeError: no home
            continue
        if known is not None and known[2]:
            return True
    return False


def choose_mode(config: LoggerConfig) -> Mode:
    """The mode asked for, but offline without a key: online, wandb would prompt for one."""
    wanted = config.mode if config.mode != "auto" else os.environ.get("WANDB_MODE", "online")
    if wanted != "online":
        return "offline"
    if logged_in():
        return "online"
    if config.mode == "online":
        log.warning("logger.mode=online but wandb has no key; logging offline")
    return "offline"


def start(logger: LoggerConfig, folder: Path, entry: Entry) -> "wandb.Run | None":
    """A session with its files in `folder/wandb`: online if that works at once, else offline; None
    where neither works. Whatever the environment does to wandb costs a line and no run."""
    mode = choose_mode(logger)
    if mode == "online":
        try:
            with stage("connecting to W&B"):
                return _init(logger, folder, entry, "online")
        except Exception as error:
            log.warning(f"wandb is not online ({reason(error)}); logging offline")
            _let_go()
    try:
        with stage("starting W&B offline"):
            return _init(logger, folder, entry, "offline")
    except Exception as error:
        log.warning(f"wandb cannot start ({reason(error)}); going on without")
        return None


def _let_go() -> None:
    """Of the run's id, which wandb holds."""
    with suppress(Exception):
        import wandb

        wandb.teardown()


def reason(error: Exception) -> str:
    """Why wandb does not work, in a line: the variable of the environment that it refuses, where it
    is one."""
    words = first_line(error)
    refused: Any = getattr(error, "errors", None)  # of pydantic, by the name of a setting
    if callable(refused) and (found := cast("list[Any]", refused())):
        setting, words = str(found[0]["loc"][0]), str(found[0]["msg"])
        name = f"WANDB_{re.sub('^x_', '_', setting).upper()}"
        if name in os.environ and "KEY" not in name:
            return f"{name}={os.environ[name]}: {words}"
        return f"{setting}: {words}"
    if isinstance(error, KeyError | RuntimeError) and not os.environ.get("HOME"):
        return f"HOME is not set, and this user has no entry of its own: {words}"
    return words


def _have_cache(folder: Path) -> None:
    """Where wandb's cache cannot be written, it says so many times and in its own words."""
    typed = os.environ.get("WANDB_CACHE_DIR")
    place = Path(typed or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "wandb"))
    try:
        place.mkdir(parents=True, exist_ok=True)
        if os.access(place, os.W_OK):
            return
    except OSError:
        pass
    if typed:
        log.warning(f"WANDB_CACHE_DIR={typed} cannot be written; W&B's cache is kept with the run")
    os.environ["WANDB_CACHE_DIR"] = str(folder / "wandb" / "cache")


def _init(logger: LoggerConfig, folder: Path, entry: Entry, mode: Mode) -> "wandb.Run":
    import wandb

    _have_cache(folder)
    settings = wandb.Settings(
        silent=True,
        console="off",
        init_timeout=INIT_SECONDS,
        login_timeout=INIT_SECONDS,
        finish_timeout=FINISH_SECONDS,
        disable_git=True,
        save_code=False,
    )
    wandb.setup(settings)  # so that logging in is silent too
    return wandb.init(
        project=logger.project,
        entity=logger.entity,
        id=entry.id,
        name=entry.name,
        group=entry.group,
        job_type=entry.job_type,
        tags=entry.tags,
        resume="allow" if mode == "online" else None,  # offline it warns, and changes nothing
        mode=mode,
        dir=folder,
        config=entry.config,
        settings=settings,
        reinit="finish_previous",
    )


class Guard:
    """Logs the first failure of wandb, ignores the others: the work goes on."""

    def __init__(self, then: str) -> None:
        self._then, self._lost = then, False

    @contextmanager
    def __call__(self) -> Generator[None]:
        try:
            yield
        except Exception as error:
            if not self._lost:
                log.warning(f"wandb failed ({reason(error)}); {self._then}")
            self._lost = True
