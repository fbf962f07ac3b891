"""Many configurations from few compositions: Hydra composes once per distinct choice of groups
(about 50 ms), and plain values are set on a copy (about 2 ms)."""

import functools
from collections.abc import Sequence
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from glam.composition.explain import explain_hydra_error
from glam.composition.overrides import groups
from glam.composition.schema import to_run_config
from glam.config import RunConfig
from glam.errors import UserError


class Composer:
    """Turns the overrides of one job into its configuration."""

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self._loader, self._master = loader, master
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        self._copies: dict[tuple[tuple[str, ...], ...], DictConfig] = {}
        self._groups = set(groups())
        self._configs: dict[tuple[str, ...], RunConfig] = {}
        # The cells of a grid have most of their words in common.
        self.parse = functools.cache(OverridesParser.create().parse_override)

    def config(self, overrides: Sequence[str]) -> RunConfig:
        """Raises UserError for a value that is refused, naming it."""
        line = tuple(overrides)
        if line not in self._configs:
            self._configs[line] = self._config(line)
        return self._configs[line]

    def values(self, overrides: Sequence[str], swept: Sequence[str]) -> dict[str, Any]:
        """The values of the swept keys, as they were composed: `'4'` in quotes is the number that
        4 is. A group by the name of its choice."""
        found: dict[str, Any] = {}
        for override in map(self.parse, overrides):
            key = override.get_key_element().lstrip("+")
            if key not in swept:
                continue
            typed = override.value()
            if override.key_or_group in self._groups:
                found[key] = str(typed)
            elif key.startswith("hydra."):
                found[key] = typed
            else:
                found[key] = _as_composed(typed, _value_at(self.config(overrides), key))
        return found

    def _config(self, overrides: tuple[str, ...]) -> RunConfig:
        parsed = [self.parse(override) for override in overrides]
        chosen = tuple(o.input_line or "" for o in parsed if o.key_or_group in self._groups)
        values = [
            o
            for o in parsed
            if o.key_or_group not in self._groups and not o.key_or_group.startswith("hydra.")
        ]
        try:
            composed = self._copy(chosen, values)
            for o in values:
                adds = o.is_add() or o.is_force_add()
                OmegaConf.update(composed, o.key_or_group, o.value(), force_add=adds)
            return to_run_config(composed)
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(explain_hydra_error(error, list(overrides))) from error

    def _copy(self, chosen: tuple[str, ...], values: Sequence[Override]) -> DictConfig:
        """To set `values` on. Copying takes longer than all else, and the lines of a grid set the
        same keys, each anew: they share a copy, unless a value is merged into what was there."""
        if any(isinstance(override.value(), dict) for override in values):
            return self._compose(chosen).copy()
        use = chosen, tuple(override.key_or_group for override in values)
        if use not in self._copies:
            self._copies[use] = self._compose(chosen).copy()
        return self._copies[use]

    def _compose(self, chosen: tuple[str, ...]) -> DictConfig:
        if chosen not in self._composed:
            composed: Any = self._loader.load_sweep_config(self._master, list(chosen))
            with flag_override(composed, ["readonly", "struct"], False):
                del composed["hydra"]
            self._composed[chosen] = composed
        return self._composed[chosen]


def _value_at(config: RunConfig, key: str) -> Any:
    """By a dotted key, whose last part may be one of a mapping."""
    node: Any = config
    for name in key.split("."):
        values = cast("dict[str, Any]", node if isinstance(node, dict) else vars(node))
        node = values[name]
    return node


def _as_composed(typed: Any, composed: Any) -> Any:
    """A number that is equal keeps the spelling that it was typed in: 1 for 1.0."""
    alike = isinstance(typed, bool) == isinstance(composed, bool)
    return typed if alike and typed == composed else composed
