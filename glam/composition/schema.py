"""The dataclasses as Hydra's schema, and a composed configuration as our dataclasses."""

from typing import Any, cast

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from glam.config import (
    AdafactorConfig,
    AdamWConfig,
    EmbeddedCorpusConfig,
    GenerateTaskConfig,
    LinearScheduleConfig,
    ListTaskConfig,
    LocalCorpusConfig,
    PaperScheduleConfig,
    PlanTaskConfig,
    RunConfig,
)

# Groups whose choices are classes of their own, and those classes by the schema's name.
CHOICES: dict[str, dict[str, type]] = {
    "task": {
        "schema_generate": GenerateTaskConfig,
        "schema_list": ListTaskConfig,
        "schema_plan": PlanTaskConfig,
    },
    "optimizer": {"schema_adamw": AdamWConfig, "schema_adafactor": AdafactorConfig},
    "schedule": {"schema_linear": LinearScheduleConfig, "schema_paper": PaperScheduleConfig},
    "data.corpus": {"schema_embedded": EmbeddedCorpusConfig, "schema_local": LocalCorpusConfig},
}


def register() -> None:
    """Tell Hydra the types. Where a group has several classes the schema leaves a gap for the
    choice to fill: OmegaConf would otherwise hold a choice to the default's class."""
    store = ConfigStore.instance()
    schema = OmegaConf.structured(RunConfig)
    for node in CHOICES:
        if node != "task":
            OmegaConf.update(schema, node, "???")
    store.store(name="schema", node=schema)
    for node, classes in CHOICES.items():
        group = node.replace(".", "/")
        for name, kind in classes.items():
            if node == "data.corpus":
                store.store(name=name, node=kind, package="data.corpus")
            else:
                store.store(group=group, name=name, node=kind)


def to_run_config(composed: DictConfig) -> RunConfig:
    """Typed and checked. Raises UserError for a value the dataclasses refuse."""
    return cast(RunConfig, OmegaConf.to_object(composed))


def classes_at(node: str, default: Any) -> list[type]:
    """Every class that may stand at the dotted `node`."""
    return [*CHOICES.get(node, {}).values(), type(default)]
