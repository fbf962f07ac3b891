"""Plans: what runs need and cost, counted; on request timed here or compiled for a TPU."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glam.config import DataConfig, PlanTaskConfig, RunConfig
from glam.errors import UserError
from glam.log import log
from glam.machine.environments import check_torch_tpu, default_route, to_xla_environment
from glam.machine.resources import pin_threads, resolve
from glam.progress import stage
from glam.runs.folder import check_writable
from glam.runs.naming import folder_name

if TYPE_CHECKING:
    from glam.planning.throughput import Throughput


def plan(config: RunConfig, overrides: list[str]) -> None:
    """What the run needs and costs, without allocating any of it."""
    show_plans([config], f"{config.model.name}-{config.hardware.name}", several=False)


def show_plans(configs: Sequence[RunConfig], name: str, *, several: bool) -> None:
    """Several stand in one table; `name` is that of the folder with the page."""
    from glam.planning.plan import plan as make_plan
    from glam.planning.plan import runs_at_once
    from glam.reporting import plan as pages
    from glam.reporting.plan_totals import totals

    task = configs[0].task
    assert isinstance(task, PlanTaskConfig)
    route = _compile_route(configs, task) if task.compile else None
    timed = _calibrate(configs) if task.calibrate else [None] * len(configs)
    plans = [
        make_plan(config, beside_others=several, throughput=throughput)
        for config, throughput in zip(configs, timed, strict=True)
    ]
    if route is not None:
        _compile(configs, plans, route)
    _prepare(configs, plans)
    match task.format:
        case "json":
            print(pages.as_json(plans, several=several))
        case "csv":
            print(pages.as_csv(plans), end="")
        case _:
            check_writable(configs[0])
            all_runs = totals(plans, runs_at_once(configs)) if several else None
            pages.print_plans(plans, all_runs)
            page = pages.write_plans(
                plans, configs[0].runs_path / "plans" / folder_name(name), all_runs
            )
            print(f"page  {page}")


def _calibrate(configs: Sequence[RunConfig]) -> "list[Throughput]":
    """Time a few steps of each distinct model on this machine; later plans find what was kept."""
    from glam.planning.throughput import calibration_file

    timed: dict[Path, Throughput] = {}
    files: list[Path] = []
    for config in configs:
        resources = resolve(config)
        files.append(file := calibration_file(config, resources))
        if file not in timed:
            pin_threads(resources)
            with stage(f"timing a few steps of model={config.model.name}"):
                from glam.planning.calibration import calibrate

                timed[file] = calibrate(config, resources, file)
            if timed[file].kind == "under load":
                log.warning(f"{timed[file].source}; time it again on an idle machine")
    return [timed[file] for file in files]


def _prepare(configs: Sequence[RunConfig], plans: Sequence[dict[str, Any]]) -> None:
    """Puts what preparing the text takes beside what training does; of each text once."""
    from glam.planning.preparation import preparation

    texts: list[DataConfig] = []
    told: list[dict[str, Any] | None] = []
    for config, made in zip(configs, plans, strict=True):
        if config.data not in texts:
            texts.append(config.data)
            told.append(preparation(config))
        made["preparation"] = told[texts.index(config.data)]


def _compile_route(configs: Sequence[RunConfig], task: PlanTaskConfig) -> str:
    """What makes the programs that the compiler is asked about. Returns in an environment that has
    it."""
    for config in configs:
        if config.hardware.topology is None:
            raise UserError(
                f"task.compile=true needs hardware.topology, which hardware="
                f"{config.hardware.name} does not set; try hardware=tpu_v4_64"
            )
    route = task.compile_with or default_route()
    if route == "torch_tpu":
        for config in configs:
            _check_loops(config)
            _check_draws(config)
        check_torch_tpu(f"task.compile_with={route}" if task.compile_with else "task.compile=true")
        return route
    to_xla_environment("task.compile_with=torch_xla" if task.compile_with else "task.compile=true")
    for name in ("jax", "libtpu"):
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"task.compile=true needs the package {name}, which is not installed; "
                f"make xla brings .venv-xla up to date"
            )
    return route


def _check_loops(config: RunConfig) -> None:
    if config.hardware.scan and not config.training.rematerialize:
        raise UserError(
            "hardware.scan=true is compiled by torch_tpu with every turn computed again: set "
            "training.rematerialize=true too, or task.compile_with=torch_xla"
        )


def _check_draws(config: RunConfig) -> None:
    """torch_tpu's generator is on a chip."""
    if config.model.is_sparse and config.model.router.second_policy == "random":
        raise UserError(
            "model.router.second_policy=random draws in every step, which torch_tpu lowers on a "
            "chip alone: set model.router.second_policy=always, or task.compile_with=torch_xla"
        )


def _compile(configs: Sequence[RunConfig], plans: Sequence[dict[str, Any]], route: str) -> None:
    """Puts what the TPU's compiler says beside what is counted."""
    from glam.planning.tpu_compile import compiled
    from glam.progress import track

    both = list(zip(configs, plans, strict=True))
    for config, made in track(both, "compile", len(both), "programs"):
        if made["layout_problem"] is None:
            made["compiled"] = compiled(config, route)
