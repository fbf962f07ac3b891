"""A session of wandb: opened without prompting, silent unless something fails."""

import netrc
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
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
    """Whether the run is logged to W&B."""
    return logger.name == "wandb" and os.environ.get("WANDB_MODE") != "disabled"


def logged_in() -> bool:
    """Whether wandb has an API key, in the environment or in netrc; never prompts."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).netloc
    names = [os.environ["NETRC"]] if "NETRC" in os.environ else ["~/.netrc", "~/_netrc"]
    for name in names:
        try:
            known = netrc.netrc(Path(name).expanduser()).authenticators(host)
        except (OSError, netrc.NetrcParseError):
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
    where neither works."""
    import wandb

    mode = choose_mode(logger)
    if mode == "online":
        try:
            with stage("connecting to W&B"):
                return _init(logger, folder, entry, "online")
        except (wandb.Error, OSError) as error:
            log.warning(f"wandb is not online ({first_line(error)}); logging offline")
            wandb.teardown()  # it holds the run's id
    try:
        with stage("starting W&B offline"):
            return _init(logger, folder, entry, "offline")
    except (wandb.Error, OSError) as error:
        log.warning(f"wandb cannot start ({first_line(error)}); going on without")
        return None


def _init(logger: LoggerConfig, folder: Path, entry: Entry, mode: Mode) -> "wandb.Run":
    import wandb

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
        import wandb

        try:
            yield
        except (wandb.Error, OSError) as error:
            if not self._lost:
                log.warning(f"wandb failed ({first_line(error)}); {self._then}")
            self._lost = True
