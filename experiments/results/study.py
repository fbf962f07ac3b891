"""A study of `python -m experiments.results`: what trains it, and what makes its files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from glam.config import ROOT


@dataclass(frozen=True, kw_only=True)
class Script:
    """A study whose module starts its own grids: `lines` train what is missing. `like` gives grids
    of such runs in the module's own folder, for the cost and for what its table was trained by;
    `extra` what it needs over them, as a share. `fresh` are files that it goes on from, which
    another machine's or another configuration's are no good for."""

    lines: tuple[str, ...]
    like: Callable[[], Sequence[str]]
    extra: float = 0.0
    fresh: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Study:
    """`needs`: studies whose tables it reads. `measured`: `from_runs` writes the table; otherwise
    it is the grid's. `makes`: what `from_runs` writes beside it."""

    name: str
    grid: str = ""
    script: Script | None = None
    before: tuple[str, ...] = ()  # modules that write the text which the grid is trained on
    place: str = ""
    table: str = "results.csv"
    needs: tuple[str, ...] = ()
    measured: bool = False
    from_runs: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    from_tables: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return ROOT / "experiments" / (self.place or self.name)

    @property
    def table_file(self) -> Path:
        return self.folder / self.table

    @property
    def is_stamped(self) -> bool:
        """Whether a file beside its table says what was trained for it: its rows do not."""
        return self.measured or self.script is not None
