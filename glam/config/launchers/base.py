"""What a launcher declares, and the registry of launchers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from glam.config.registry import Registry

if TYPE_CHECKING:
    from glam.config._run import RunConfig


@dataclass(kw_only=True)
class LauncherConfig:
    """Keys of a launcher (`hydra.launcher.…`), and what it needs."""

    launcher: ClassVar[str]  # its name, in hydra/launcher=<name>; a key may be called name
    package: ClassVar[str | None] = None  # that must be installed
    extra: ClassVar[str | None] = None  # of glam, which brings the package
    program: ClassVar[str | None] = None  # that must be found by the shell

    # Whether other machines run the jobs. They share this machine's files.
    remote: ClassVar[bool] = False

    def check(self, jobs: Sequence[Any], config: "RunConfig") -> None:
        """Called before anything is made; `config` is of any cell. Raises UserError where the jobs
        (`glam.studies.pool.Job`) cannot be taken."""

    def run(self, jobs: Sequence[Any]) -> None:
        """Run every job: `job.start()`, then `job.poll()` until `job.state` is not "running". A job
        that fails stops no other."""
        raise NotImplementedError(f"{type(self).__name__} has no run()")


LAUNCHERS: Registry[LauncherConfig] = Registry("hydra/launcher", attribute="launcher")
