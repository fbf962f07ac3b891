"""Weights & Biases, where it is wanted: offline unless logged in, silent, never in the way.

`logger=csv` and `logger=none` import nothing of it.
"""

import dataclasses
import netrc
import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlsplit

from glam.config import LoggerConfig, RunConfig
from glam.identity import run_name
from glam.peers import rank
from glam.resources import Resources
from glam.runs import RunFolder

if TYPE_CHECKING:
    import wandb

Mode = Literal["online", "offline"]
INIT_SECONDS = 10.0  # a run does not wait longer than this for the network, at its start
FINISH_SECONDS = 60.0  # … nor at its end: `wandb sync` sends the rest


class Tracker:
    """Tracks nothing: metrics.csv is written without it."""

    def log(self, row: Mapping[str, float]) -> None:
        """Take a row of metrics.csv."""

    def summarize(self, summary: Mapping[str, Any]) -> None:
        """Take the run's final figures (summary.json)."""


@contextmanager
def open_tracker(config: RunConfig, run: RunFolder, resources: Resources) -> Generator[Tracker]:
    """The tracker that `config.logger` names, closed when the run ends, as failed if it did."""
    wanted = config.logger.name == "wandb" and os.environ.get("WANDB_MODE") != "disabled"
    wanted = wanted and rank() == 0
    session = _start(config, run, resources) if wanted else None
    if session is None:
        yield Tracker()
        return
    tracker = WandbTracker(session, run.metrics_file)
    try:
        yield tracker
    except BaseException:
        tracker.finish(exit_code=1)
        raise
    tracker.finish(exit_code=0)


class WandbTracker(Tracker):
    """A run of wandb. When wandb fails, it says so once and is left alone: the run goes on."""

    def __init__(self, session: "wandb.Run", metrics_file: Path) -> None:
        self._metrics_file, self._session = metrics_file, session
        self._lost = False
        session.define_metric("tokens")
        session.define_metric("*", step_metric="tokens")
        # A resumed run repeats the rows after its checkpoint, to the last bit: sent once.
        summary: Any = session.summary
        self._tokens_sent = float(summary.get("tokens") or 0)

    def log(self, row: Mapping[str, float]) -> None:
        if row["tokens"] <= self._tokens_sent:
            return
        self._tokens_sent = row["tokens"]
        plain = {name: value for name, value in row.items() if not name.startswith("load/")}
        with self._guarded():
            self._session.log(plain | busiest_and_idlest(row))

    def summarize(self, summary: Mapping[str, Any]) -> None:
        import wandb

        from glam.training.load_map import load_maps

        with self._guarded():
            for layer, figure in load_maps(self._metrics_file).items():
                self._session.log({f"load_map/{layer}": wandb.Image(figure)})
            target: Any = self._session.summary
            target.update(_flat("final", summary))

    def finish(self, exit_code: int) -> None:
        with self._guarded():
            self._session.finish(exit_code=exit_code)

    @contextmanager
    def _guarded(self) -> Generator[None]:
        import wandb

        try:
            yield
        except (wandb.Error, OSError) as error:
            if not self._lost:
                print(f"wandb failed ({_first_line(error)}); training goes on", file=sys.stderr)
            self._lost = True


def busiest_and_idlest(row: Mapping[str, float]) -> dict[str, float]:
    """Two curves a layer in place of one an expert: load over an even share."""
    by_layer: dict[str, list[float]] = {}
    for name, share in row.items():
        if name.startswith("load/"):
            by_layer.setdefault(name.split("/")[1], []).append(share)
    figures: dict[str, float] = {}
    for layer, shares in by_layer.items():
        figures[f"load/{layer}/busiest"] = max(shares) * len(shares)
        figures[f"load/{layer}/idlest"] = min(shares) * len(shares)
    return figures


def logged_in() -> bool:
    """Whether wandb has a key to use, found without asking anybody."""
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
    """Online is never tried without a key: wandb would ask for one."""
    wanted = config.mode if config.mode != "auto" else os.environ.get("WANDB_MODE", "online")
    if wanted != "online":
        return "offline"
    if logged_in():
        return "online"
    if config.mode == "online":
        print("logger.mode=online but wandb has no key; logging offline", file=sys.stderr)
    return "offline"


def _start(config: RunConfig, run: RunFolder, resources: Resources) -> "wandb.Run | None":
    """Online if that works at once, else offline, else not at all."""
    import wandb

    mode, plain = choose_mode(config.logger), _plain(config, resources)
    if mode == "online":
        try:
            return _init(config, run, plain, "online")
        except (wandb.Error, OSError) as error:
            print(f"wandb is not online ({_first_line(error)}); logging offline", file=sys.stderr)
            wandb.teardown()  # it holds the run's id
    try:
        return _init(config, run, plain, "offline")
    except (wandb.Error, OSError) as error:
        print(f"wandb cannot start ({_first_line(error)}); going on without", file=sys.stderr)
        return None


def _init(config: RunConfig, run: RunFolder, plain: dict[str, Any], mode: Mode) -> "wandb.Run":
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
        project=config.logger.project,
        entity=config.logger.entity,
        id=run.id,
        name=config.study.cell or run_name(config),
        group=config.study.name,
        resume="allow" if mode == "online" else None,  # offline it warns, and changes nothing
        mode=mode,
        dir=run.path,
        config=plain,
        settings=settings,
        reinit="finish_previous",
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _plain(config: RunConfig, resources: Resources) -> dict[str, Any]:
    """The configuration as a nested mapping, with what follows from it."""
    model = config.model
    derived = {
        "parameters": model.num_params,
        "active_parameters": model.num_active_params,
        "embedding_parameters": model.num_embedding_params,
        "flops_per_token": config.flops_per_token,
        "steps": config.training.num_steps,
        **dataclasses.asdict(resources),
    }
    return {**dataclasses.asdict(config), "derived": derived}


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    """Nested mappings to `prefix/key/key`: each a column of wandb's table."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, part in cast(Mapping[str, Any], value).items():
        flat |= _flat(f"{prefix}/{key}", part)
    return flat
