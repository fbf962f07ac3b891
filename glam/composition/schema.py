"""The dataclasses as Hydra's schema, and a composed configuration as our dataclasses."""

from typing import Any, cast

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from glam.config import GROUPS, TASK_CLASSES, RunConfig

# Mappings whose keys are the user's, such as options of another program.
_OPEN = ("data.slurm.options",)


def classes_by_node() -> dict[str, dict[str, type]]:
    """Dotted places whose choices are classes of their own, and those classes by name."""
    found: dict[str, dict[str, type]] = {"task": dict(TASK_CLASSES)}
    for node, registry in GROUPS.items():
        found[node] = {name: registry[name] for name in registry}
    return found


def register() -> None:
    """Tell Hydra the types: `schema_<name>` is the class of a choice. Where a group has several
    classes the schema leaves a gap for the choice to fill: OmegaConf would otherwise hold a choice
    to the default's class."""
    store = ConfigStore.instance()
    schema = OmegaConf.structured(RunConfig)
    for node in GROUPS:
        OmegaConf.update(schema, node, "???")
    for mapping in _OPEN:
        OmegaConf.set_struct(OmegaConf.select(schema, mapping), False)
    store.store(name="schema", node=schema)
    for node, classes in classes_by_node().items():
        for name, kind in classes.items():
            if node == "data.corpus":  # its choices are included by their own place
                store.store(name=f"schema_{name}", node=kind, package="data.corpus")
            else:
                store.store(group=node, name=f"schema_{name}", node=kind)


def to_run_config(composed: DictConfig) -> RunConfig:
    """Typed and checked. Raises UserError for a value the dataclasses refuse."""
    return cast(RunConfig, OmegaConf.to_object(composed))


def classes_at(node: str, default: Any) -> list[type]:
    """Every class that may stand at the dotted `node`, that of `default` last."""
    others = classes_by_node().get(node, {}).values()
    return [*(kind for kind in others if kind is not type(default)), type(default)]
