"""The folder of a run: its files, its lock, and whether the run is done."""

import contextlib
import dataclasses
import functools
import os
import re
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from filelock import FileLock, Timeout

from glam.config import ROOT, RunConfig, from_mapping, typed_path
from glam.errors import UserError, first_line
from glam.files import (
    SEAL,
    UnfitError,
    read_json_if_there,
    read_yaml,
    sealed,
    to_json,
    unsealed,
)
from glam.log import log
from glam.machine.processes import rank
from glam.machine.resources import Resources
from glam.runs.checkpoints import step_folders
from glam.runs.contents import Data, Summary
from glam.runs.identity import could_be, run_id
from glam.runs.naming import run_name

T = TypeVar("T")

WRITTEN_AGAIN = "remove it, or make it readable; the run's own command writes it again"
FILES = (
    *("config.yaml", "metrics.csv", "summary.json", "failure.json", "data.json", "routing.json"),
    *("generated.json", "layout.json", "evaluation.json", "analysis.json", "report.html"),
    *("bias.json", "correction.json", "progress.json", "seconds.json"),
)
ANOTHER = "the run's own command with rerun=true trains it again"
NO_RUN = "name a run's folder; python run.py task=list shows the runs"
NAMED = re.compile(r"-([0-9a-f]{10})(\.old\d+)?$")  # as the folder of a run is, by its id


def write_atomically(file: Path, text: str) -> None:
    """Write, flush to the disk, rename: a reader sees the old file or the new one, also where
    several write it at once. Raises OSError, with the old file in place, where it can't."""
    part = file.with_name(f".{file.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with part.open("w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def check_writable(config: RunConfig, *keys: str) -> None:
    """Raises UserError for a folder in which nothing can be made: of runs, or those of `keys`."""
    paths = {"runs_dir": config.runs_path, "cache_dir": config.cache_path}
    for key in keys or ("runs_dir",):
        if (reason := why_closed(paths[key])) is not None:
            raise UserError(
                f"{key}={getattr(config, key)} cannot be written ({reason}); name another folder "
                f"with {key}=..."
            )


def _check_is_folder(config: RunConfig) -> None:
    places = (config.runs_path.absolute(), *config.runs_path.absolute().parents)
    there = next(one for one in places if os.path.lexists(one))
    if not there.is_dir():
        raise UserError(
            f"runs_dir={config.runs_dir}: {there} is no folder; name another with runs_dir=..."
        )


def why_closed(folder: Path) -> str | None:
    """Why nothing can be made in a folder, in the system's words; None where it can. The folder
    is made where it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        return error.strerror or first_line(error)
    return None


@contextmanager
def locked(file: Path, timeout: float = -1) -> Generator[None]:
    """Hold a lock; -1 waits for it. Raises filelock's Timeout where another process has it, and
    UserError for a folder or a link in its place, or a file of someone else."""
    lock = FileLock(file)
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        raise
    except OSError as error:
        raise UserError(
            f"{file} cannot be locked ({error.strerror or error}); remove it, or make it writable"
        ) from None
    try:
        yield
    finally:
        lock.release()


class HeldError(UserError):
    """A run that another process has."""


@functools.cache
def _warn_once(line: str) -> None:
    """A file that is not as it was written is read again and again while a grid runs."""
    log.warning(line)


class RunFolder:
    """`runs/<readable name>-<id>/`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, config: RunConfig, resources: Resources) -> "RunFolder":
        """Of several processes that train one model, the first writes it. Raises UserError where
        `runs_dir` is no folder, nor can be one."""
        _check_is_folder(config)
        identity, kind = run_id(config, resources), cls if rank() == 0 else FollowersFolder
        usual = config.runs_path / f"{run_name(config)}-{identity}"
        if usual.is_dir():
            return kind(usual)
        # Found by id: a run keeps its folder when only its readable name would be another.
        for path in config.runs_path.glob(f"*-{identity}"):
            return kind(path)
        return kind(usual)

    @classmethod
    def containing(cls, path: str) -> "RunFolder | None":
        """The run whose folder is `path` or holds it two levels up (a checkpoint), relative to the
        current directory or the repository's root; None where there is none."""
        typed = typed_path("run", path)
        places = [typed, ROOT / typed] if path.strip() else []
        # `run=runs/<run>/checkpoints/step-00001234` means its run.
        places += [one.parent.parent for one in places if one.parent.name == "checkpoints"]
        for folder in places:
            with contextlib.suppress(OSError):  # a name that is too long
                if (folder / "config.yaml").is_file():
                    return cls(folder.resolve())
        return None

    @property
    def id(self) -> str:
        return self.path.name.rsplit("-", 1)[-1]

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def summary_file(self) -> Path:
        return self.path / "summary.json"

    @property
    def failure_file(self) -> Path:
        return self.path / "failure.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def report_file(self) -> Path:
        return self.path / "report.html"

    def summary(self) -> dict[str, Any] | None:
        """The finished run's summary; None while it is not done. One that is not as it was written
        counts as not done, with a warning: the run is resumed, and writes it anew. Raises
        UserError for one that cannot be read."""
        try:
            found = read_json_if_there(self.summary_file, Summary, way_out=WRITTEN_AGAIN)
            return cast(dict[str, Any] | None, found)
        except UnfitError as unfit:
            _warn_once(str(unfit))
            return None

    def summary_if_readable(self) -> dict[str, Any] | None:
        """As `summary`, for whoever looks at many runs: one that cannot be read is warned of."""
        try:
            return self.summary()
        except UserError as error:
            _warn_once(str(error))
            return None

    def read(self, name: str, kind: type[T]) -> T | None:
        """What the JSON file `name` of the run holds; None where there is none, and with a warning
        where it cannot be read or holds something else: no result depends on it."""
        try:
            return read_json_if_there(self.path / name, kind, way_out="it is left out")
        except UserError as error:
            _warn_once(str(error))
            return None

    @property
    def has_begun(self) -> bool:
        """Whether it was trained for some steps: a checkpoint lies in it."""
        return bool(step_folders(self.checkpoints))

    @property
    def text_fingerprint(self) -> str | None:
        """Of the text that the run was trained on; None where nothing says it (before 0.3.0)."""
        return self._said_of_text("text_fingerprint", "text_fingerprint")

    @property
    def data_fingerprint(self) -> str | None:
        """Of the tokens that the run was trained on; None where nothing says it."""
        return self._said_of_text("data_fingerprint", "fingerprint")

    def _said_of_text(self, in_summary: str, in_data: str) -> str | None:
        """By `summary.json`, or before it is written by `data.json`."""
        said = (self.summary() or {}).get(in_summary)
        if said is None:
            said = (self.read("data.json", Data) or {}).get(in_data)
        return said if isinstance(said, str) else None

    def write_json(self, name: str, content: Any) -> None:
        """A mapping is sealed, so that a change of it shows."""
        whole = sealed(cast(dict[str, Any], content)) if isinstance(content, dict) else content
        write_atomically(self.path / name, to_json(whole))

    def write_plain_json(self, name: str, content: Any) -> None:
        """Without a seal: a file in the format of another program."""
        write_atomically(self.path / name, to_json(content))

    def check_writable(self, name: str) -> None:
        """Raises UserError, before the work that file `name` is the end of, where it could not be
        written."""
        if (reason := why_closed((self.path / name).parent)) is not None:
            raise UserError(
                f"{self.path / name} cannot be written ({reason}); make the run's folder "
                f"writable, or copy it and name the copy with run=..."
            )

    def write_failure(self, error: str, traceback: str | None = None) -> None:
        """Why the run stopped. Raises OSError where that cannot be written either."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        failure = {"error": error, "traceback": traceback, "time": now}
        self.write_json("failure.json", failure)

    def write_config(self, config: RunConfig) -> None:
        content = sealed(dataclasses.asdict(config))
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        write_atomically(self.config_file, text)

    def config(self) -> dict[str, Any]:
        """`config.yaml` as a plain nested mapping. Raises UserError for a file that is absent, cut
        short or changed."""
        return self._config()[0]

    def run_config(self) -> RunConfig:
        """What the run was asked to be. Raises UserError for a file that does not say, and for one
        that says it of another run than the folder's name and summary do."""
        config = self._config()[1]
        self._check_identity(config)
        return config

    def _config(self) -> tuple[dict[str, Any], RunConfig]:
        try:
            content = read_yaml(self.config_file, way_out=self._way_out)
        except FileNotFoundError:
            raise UserError(f"{self.path} is no run folder (no config.yaml in it)") from None
        try:
            plain = unsealed(content)
            # Whole: a key that it lacks is newer than the run.
            return plain, from_mapping(RunConfig, plain, may_lack=SEAL in content)
        except ValueError as error:
            reason = first_line(error)
            raise UserError(
                f"{self.config_file} cannot be read ({reason}); {self._way_out}"
            ) from None

    @property
    def _way_out(self) -> str:
        """For a `config.yaml` that is no good: a folder not named as runs are may be none."""
        return ANOTHER if NAMED.search(self.path.resolve().name) else NO_RUN

    def _check_identity(self, config: RunConfig) -> None:
        """Raises UserError where the configuration is not that of the id in the folder's name, or
        of the fingerprint in the summary."""
        summary = self.summary()
        recorded = summary.get("config_fingerprint", "") if summary is not None else ""
        named = NAMED.search(self.path.resolve().name)
        if named and recorded and not recorded.startswith(named[1]):
            raise UserError(
                f"{self.summary_file} is of the run {recorded[:10]} and lies in {self.path.name}; "
                f"move it back, or {ANOTHER}"
            )
        wanted = recorded or (named[1] if named else "")
        if wanted and not could_be(config, wanted):
            raise UserError(
                f"{self.config_file} is not the configuration of the run {wanted[:10]}; "
                f"put back the one that it was trained with, or {ANOTHER}"
            )

    @property
    def is_held(self) -> bool:
        """Whether a process has the run now."""
        if not self.path.is_dir():
            return False
        try:
            with self.lock():
                return False
        except HeldError:
            return True
        except UserError:  # what lies in the lock's place nobody can hold
            return False

    @contextmanager
    def lock(self) -> Generator[None]:
        """Hold the run. Raises UserError when another process does."""
        try:
            with locked(self.path / ".lock", timeout=0):
                yield
        except Timeout:
            raise HeldError(
                f"{self.path.name} is being run by another process; wait for it, or change the seed"
            ) from None

    def check_files(self) -> None:
        """Raises UserError for a folder, a pipe or a link to nothing in the place of a file of the
        run: it could be neither read nor replaced."""
        for file in (self.path / name for name in FILES):
            if os.path.lexists(file) and not file.is_file():
                raise UserError(f"{file} is no regular file; remove it")

    def move_aside(self) -> Path | None:
        """Rename an old run out of the way (`rerun=true`); returns where it went. Raises UserError
        while another process has it."""
        if not self.path.exists():
            return None
        number = 1
        while (target := self.path.with_name(f"{self.path.name}.old{number}")).exists():
            number += 1
        with self.lock():
            return self.path.rename(target)


class FollowersFolder(RunFolder):
    """A run's folder for a process that reads it and leaves writing to another."""

    def write_json(self, name: str, content: Any) -> None: ...

    def write_plain_json(self, name: str, content: Any) -> None: ...

    def write_config(self, config: RunConfig) -> None: ...

    @contextmanager
    def lock(self) -> Generator[None]:
        yield

    def move_aside(self) -> Path | None:
        return None
