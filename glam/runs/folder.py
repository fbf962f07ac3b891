"""The folder of a run: its files, its lock, and whether the run is done."""

import contextlib
import dataclasses
import json
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from glam.config import ROOT, RunConfig, from_mapping, typed_path
from glam.errors import UserError, first_line
from glam.machine.processes import rank
from glam.machine.resources import Resources
from glam.runs.checkpoints import step_folders
from glam.runs.identity import run_id
from glam.runs.naming import run_name


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


class RunFolder:
    """`runs/<readable name>-<id>/`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, config: RunConfig, resources: Resources) -> "RunFolder":
        """Of several processes that train one model, the first writes it."""
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
        """The finished run's summary; None while it is not done. An unreadable one counts as
        not done: the run is resumed, and writes it anew."""
        try:
            summary: Any = json.loads(self.summary_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return summary if isinstance(summary, dict) and "status" in summary else None  # pyright: ignore[reportUnknownVariableType]

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
            with contextlib.suppress(OSError, ValueError, AttributeError):
                said = json.loads((self.path / "data.json").read_text(encoding="utf-8")).get(
                    in_data
                )
        return said if isinstance(said, str) else None

    def write_json(self, name: str, content: Any) -> None:
        write_atomically(self.path / name, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def check_writable(self, name: str) -> None:
        """Raises UserError, before the work that file `name` is the end of, where it could not be
        written."""
        if (reason := why_closed(self.path)) is not None:
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
        text = yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)
        write_atomically(self.config_file, text)

    def config(self) -> dict[str, Any]:
        """`config.yaml` as it stands: a plain nested mapping."""
        return yaml.safe_load(self.config_file.read_text(encoding="utf-8"))

    def run_config(self) -> RunConfig:
        """What the run was asked to be. Raises UserError for a file that does not say."""
        try:
            content = self.config()
            if "model" not in content:
                raise ValueError("it names no model")
            return from_mapping(RunConfig, content)
        except (OSError, AttributeError, TypeError, ValueError, yaml.YAMLError) as error:
            reason = first_line(error)
            raise UserError(
                f"{self.config_file} cannot be read ({reason}); rerun=true runs it again"
            ) from error

    @property
    def is_held(self) -> bool:
        """Whether a process has the run now."""
        if not self.path.is_dir():
            return False
        try:
            with self.lock():
                return False
        except UserError:
            return True

    @contextmanager
    def lock(self) -> Generator[None]:
        """Hold the run. Raises UserError when another process does."""
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"{self.path.name} is being run by another process; wait for it, or change the seed"
            ) from None
        try:
            yield
        finally:
            lock.release()

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

    def write_config(self, config: RunConfig) -> None: ...

    @contextmanager
    def lock(self) -> Generator[None]:
        yield

    def move_aside(self) -> Path | None:
        return None
