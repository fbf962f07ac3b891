"""A run folder read for reports. A file that is missing is empty; so is one that is not as it was
written, with a warning."""

import csv
import io
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from glam.errors import UserError, first_line
from glam.files import read_text
from glam.log import log
from glam.runs.contents import Data, Failure, Generated, LayoutRow, Overlap, Routing
from glam.runs.evaluations import SavedSuite, read_suites
from glam.runs.findings import Analysis, Bias, Correction
from glam.runs.folder import RunFolder
from glam.units import is_number

Array: TypeAlias = NDArray[np.float64]
Json: TypeAlias = dict[str, Any]
Status = Literal["done", "diverged", "failed", "unfinished"]


LOAD = re.compile(r"\d+/\d+", re.ASCII)  # layer and expert, in the name of a column


class Metrics:
    """`metrics.csv`: columns of float64 `[rows]`, NaN where nothing was measured."""

    def __init__(self, columns: dict[str, Array]) -> None:
        self.columns = columns

    @classmethod
    def read(cls, file: Path) -> "Metrics":
        try:
            text = read_text(file, way_out="it is left out")
            # Strict: a quote that is never closed would swallow the rows behind it.
            header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        except FileNotFoundError:
            return cls({})
        except (ValueError, csv.Error) as error:
            unread = f"{file} cannot be read as CSV ({first_line(error)}); its curves are left out"
            log.warning(str(error) if isinstance(error, UserError) else unread)
            return cls({})
        # A run that was cut off may leave half a line.
        whole = [row for row in rows if len(row) == len(header)]
        table = np.array([[_number(cell) for cell in row] for row in whole], dtype=np.float64)
        table = table.reshape(len(whole), len(header))
        return cls({name: table[:, i] for i, name in enumerate(header)})

    def under(self, prefix: str) -> list[str]:
        """The rest of the names of the columns that begin with `prefix/`, in their order."""
        return [name[len(prefix) + 1 :] for name in self.columns if name.startswith(prefix + "/")]

    def curve(self, column: str) -> tuple[Array, Array]:
        """Tokens and values `[points]` of a column, where both are finite."""
        if column not in self.columns or "tokens" not in self.columns:
            return np.empty(0), np.empty(0)
        tokens, values = self.columns["tokens"], self.columns[column]
        measured = np.isfinite(tokens) & np.isfinite(values)
        return tokens[measured], values[measured]

    def load(self) -> tuple[Array, dict[str, Array]]:
        """Tokens `[points]`, and by MoE layer the load over the mean `[points, experts]`:
        1 everywhere is even."""
        names = [name.rpartition("/") for name in self.under("load") if LOAD.fullmatch(name)]
        experts: dict[str, list[str]] = {}
        for layer, _, expert in names:
            experts.setdefault(layer, []).append(expert)
        experts = {layer: order for layer, order in experts.items() if len(order) > 1}
        if not experts or "tokens" not in self.columns:
            return np.empty(0), {}
        shares = {
            layer: np.stack([self.columns[f"load/{layer}/{e}"] for e in sorted(order, key=int)], 1)
            for layer, order in experts.items()
        }
        measured = np.all([np.isfinite(share).all(1) for share in shares.values()], axis=0)
        loads = {layer: share[measured] * share.shape[1] for layer, share in shares.items()}
        return self.columns["tokens"][measured], loads


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


@dataclass(frozen=True, kw_only=True)
class Record:
    """The files of a run folder, as reports read them."""

    name: str
    config: Json
    metrics: Metrics
    summary: Json
    failure: Json
    data: Json
    routing: Json
    generated: list[Json]
    layout: list[Json]
    suites: list[SavedSuite]
    overlap: Json = field(default_factory=dict[str, Any])
    analysis: Json = field(default_factory=dict[str, Any])
    bias: Json = field(default_factory=dict[str, Any])
    correction: Json = field(default_factory=dict[str, Any])

    @classmethod
    def read(cls, run: Path) -> "Record":
        folder = RunFolder(run)
        return cls(
            name=run.resolve().name,
            config=_config(folder),
            metrics=Metrics.read(folder.metrics_file),
            summary=folder.summary() or {},
            failure=cast(Json, folder.read("failure.json", Failure) or {}),
            data=cast(Json, folder.read("data.json", Data) or {}),
            routing=cast(Json, folder.read("routing.json", Routing) or {}),
            generated=cast(list[Json], folder.read("generated.json", list[Generated]) or []),
            layout=cast(list[Json], folder.read("layout.json", list[LayoutRow]) or []),
            overlap=cast(Json, folder.read("overlap.json", Overlap) or {}),
            analysis=cast(Json, folder.read("analysis.json", Analysis) or {}),
            suites=read_suites(run),
            bias=cast(Json, folder.read("bias.json", Bias) or {}),
            correction=cast(Json, folder.read("correction.json", Correction) or {}),
        )

    @property
    def status(self) -> Status:
        if self.summary:
            return "diverged" if self.summary.get("status") == "diverged" else "done"
        return "failed" if self.failure else "unfinished"

    @property
    def domains(self) -> list[str]:
        """The held-out domains: of the final evaluation, or else of those during training."""
        final = self.part("loss")
        names = list(final) or self.metrics.under("held_out")
        return [name for name in names if name != "mean"]

    def held_out(self, domain: str) -> tuple[Array, Array]:
        """Tokens and held-out loss `[points]` of a domain or "mean". Points during training are
        measured on `evaluation.tokens_per_point` tokens; the last point of a finished run is its
        final evaluation, on `evaluation.tokens_per_domain`, as in the summary."""
        tokens, losses = self.metrics.curve(f"held_out/{domain}")
        final = self.part("loss").get(domain)
        trained = self.summary.get("tokens")
        if not (is_number(final) and is_number(trained) and len(tokens)):
            return tokens, losses
        before = tokens < trained
        return np.append(tokens[before], trained), np.append(losses[before], final)

    def part(self, name: str) -> Json:
        """A nested mapping of the summary; empty where there is none."""
        return mapping(self.summary.get(name))

    def setting(self, dotted: str) -> Any:
        """A value of the configuration, e.g. `model.num_experts`; None where there is none."""
        value: Any = self.config
        for name in dotted.split("."):
            value = mapping(value).get(name)
        return value


def why_diverged(summary: Json) -> str:
    """One clause; summaries of version 0.2 do not say it."""
    why = summary.get("diverged")
    return str(why or "gradients were NaN or Inf for too many steps in a row")


def mapping(value: Any) -> Json:
    """The value where it is a mapping, else an empty one."""
    return cast(Json, value) if isinstance(value, dict) else {}


def _config(folder: RunFolder) -> Json:
    if not os.path.lexists(folder.config_file):
        return {}
    try:
        return folder.config()
    except UserError as error:
        log.warning(str(error))
        return {}
