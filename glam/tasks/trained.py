"""The run that `evaluate` and `generate` are about: its configuration, model and text."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from glam.config import RunConfig
from glam.errors import UserError
from glam.machine.resources import pin_threads, resolve
from glam.progress import stage
from glam.runs.folder import RunFolder
from glam.runs.identity import DETERMINES_THE_RESULT
from glam.tasks.prepare import prepared_text

if TYPE_CHECKING:
    from glam.data import PreparedData
    from glam.model import Glam


def trained_run(config: RunConfig, overrides: list[str]) -> tuple[RunFolder, RunConfig]:
    """The run named by `run`, and its own configuration with this line's task and hardware, and
    what it says of the evaluation. Raises UserError for a line that asks for another model or other
    data."""
    run = RunFolder.at(str(config.run))
    trained, typed = run.run_config(), dict[str, Any]()
    for override in overrides:
        key, _, name = override.lstrip("+").partition("=")[0].partition(".")
        section = key.split("/")[0]
        if section in DETERMINES_THE_RESULT and section != "seed":
            raise UserError(
                f"{override}: task={config.task.name} takes {section} from run={config.run}; "
                f"leave it out"
            )
        if section == "evaluation":
            whole = vars(config.evaluation)  # a choice of the group sets all of it
            typed |= {name: whole[name]} if name else whole
    mine = {name: getattr(config, name) for name in ("task", "hardware", "seed", "run")}
    return run, replace(trained, **mine, evaluation=replace(trained.evaluation, **typed))


def load_model(run: RunFolder, config: RunConfig) -> "tuple[Glam, PreparedData]":
    """The newest weights of the run, and the text and tokenizer it was trained with."""
    resources = resolve(config)
    pin_threads(resources)
    with stage("loading PyTorch"):
        import torch

        from glam.model import Glam

    torch.set_num_threads(resources.threads)
    dtype = torch.bfloat16 if resources.precision == "bfloat16" else torch.float32
    model = Glam.from_run(run.path, dtype=dtype).to(resources.device)
    return model, prepared_text(config)
