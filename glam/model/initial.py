"""The trained weights that a run begins with, in their places: those of a model alike, or a dense
model's in the experts of a sparse one (upcycling, arXiv 2212.05055)."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from glam.config import RunConfig
from glam.config.layout import OF_CHOICE
from glam.model.glam import Glam
from glam.model.init import draw
from glam.model.saved import name_today
from glam.model.saved_tensors import SafetensorsSource, SavedTensors
from glam.runs.checkpoints import checksum
from glam.runs.initial import Initial, find_initial, is_upcycled, slices_of_dense, with_initial
from glam.runs.manifest import DamagedCheckpointError


def initial_weights(config: RunConfig, prefix: str = "") -> SavedTensors:
    """The weights that `config.model.init_from` names for its model, by their names after `prefix`;
    what is new in the model is drawn by the seed. Raises UserError where they have changed since
    the run was asked for, or one is absent or of another shape."""
    initial = find_initial(with_initial(config))
    _check_files(initial)
    with torch.device("meta"):
        model = Glam(config.model)
    shapes = {prefix + name: tuple(value.shape) for name, value in model.state_dict().items()}
    sources = [SafetensorsSource(initial.weights / name) for name in initial.files]
    weights = SavedTensors(sources, initial.splits, lambda name: prefix + name_today(name))
    if is_upcycled(initial.model, config.model):
        slices = slices_of_dense(initial.model, config.model)
        weights = Upcycled(weights, shapes, slices, prefix, config.seed)
    elif config.model.moves_bias and not initial.model.moves_bias:
        weights = WithEvenBiases(weights, shapes)
    _check_shapes(initial, weights, shapes)
    return weights


def _check_files(initial: Initial) -> None:
    for name, found in initial.files.items():
        try:
            is_whole = checksum(initial.weights / name) == found
        except (DamagedCheckpointError, OSError):
            is_whole = False
        if not is_whole:
            raise initial.refusal(f"{name} is damaged, or has changed just now; bring it back")


def _check_shapes(
    initial: Initial, weights: SavedTensors, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    there = set(weights)
    for name, shape in shapes.items():
        if name not in there:
            raise initial.refusal(f"it has no weight {name}; export it again")
        if (found := weights.shape(name)) != shape:
            raise initial.refusal(f"{name} is {list(found)}, not {list(shape)}; export it again")


class Upcycled(SavedTensors):
    """A sparse model's weights made of a dense one's.

    A feed-forward that is `slices` experts wide is cut into that many, side by side, and each slice
    is the beginning of every `slices`-th expert. Neighbours begin with the same column of the
    router, so a token goes to all slices of the feed-forward with equal gates; what they write is
    multiplied by `slices`. So the sum of the experts is the dense feed-forward's output, whatever
    the router says, as long as a token's gates sum to 1.
    """

    def __init__(
        self,
        dense: SavedTensors,
        shapes: Mapping[str, tuple[int, ...]],
        slices: int,
        prefix: str,
        seed: int,
    ) -> None:
        self._dense, self._shapes, self._slices = dense, shapes, slices
        self._prefix, self._seed = prefix, seed

    @property
    def where(self) -> str:
        return self._dense.where

    def __iter__(self) -> Iterator[str]:
        """Of the sparse model's, those that there is something for."""
        there = set(self._dense)
        return (n for n in self._shapes if n in there or _dense_name(n) in there or _is_new(n))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in set(self)

    def shape(self, name: str) -> tuple[int, ...]:
        if _is_new(name):
            return self._shapes[name]
        if (dense := _dense_name(name)) is None:
            return self._dense.shape(name)
        wide = list(self._dense.shape(dense))
        wide[_hidden_axis(name)] //= self._slices
        return self._shapes[name][0], *wide

    def read(self, name: str, parts: Mapping[int, range] | None = None) -> Tensor:
        wanted = dict(parts or {})
        if _is_new(name):
            return _part(self._router(name), wanted)
        if (dense := _dense_name(name)) is None:
            return self._dense.read(name, wanted)
        # Of the experts that are asked for alone.
        experts = wanted.pop(0, range(self._shapes[name][0]))
        return _part(self._experts(name, dense, experts), wanted)

    def _experts(self, name: str, dense: str, numbers: range) -> Tensor:
        axis = _hidden_axis(name)
        slices = self._dense.read(dense).chunk(self._slices, axis)
        scale = self._slices if axis == 0 else 1  # of what an expert writes
        each = [scale * slices[number % self._slices] for number in numbers]
        return torch.stack(each) if each else slices[0].new_empty(0, *slices[0].shape)

    def _router(self, name: str) -> Tensor:
        *others, experts = self._shapes[name]
        router = torch.empty(*others, experts // self._slices)
        draw(router, name.removeprefix(self._prefix), self._seed)
        return router.repeat_interleave(self._slices, -1)


class WithEvenBiases(SavedTensors):
    """The weights of a model that had no bias of the choice: in a new model it is 0, as in the
    beginning, so that the first step chooses what that model chose."""

    def __init__(self, saved: SavedTensors, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._of_source = saved
        self._new = {n: shape for n, shape in shapes.items() if n.endswith(OF_CHOICE)}

    @property
    def where(self) -> str:
        return self._of_source.where

    def __iter__(self) -> Iterator[str]:
        yield from self._of_source
        yield from self._new

    def __len__(self) -> int:
        return len(self._of_source) + len(self._new)

    def __contains__(self, name: object) -> bool:
        return name in self._new or name in self._of_source

    def shape(self, name: str) -> tuple[int, ...]:
        return self._new[name] if name in self._new else self._of_source.shape(name)

    def read(self, name: str, parts: Mapping[int, range] | None = None) -> Tensor:
        if name in self._new:
            return _part(torch.zeros(self._new[name]), parts or {})
        return self._of_source.read(name, parts)


def _is_new(name: str) -> bool:
    return ".router." in name


def _dense_name(name: str) -> str | None:
    """Of the weight that experts are made of: `ffn.w_in_MH` for `ffn.experts.w_in_EMH`."""
    return name.replace(".experts.", ".").replace("_E", "_") if ".experts." in name else None


def _hidden_axis(name: str) -> int:
    """Of the dense weight."""
    return 1 if name.endswith("w_in_EMH") else 0


def _part(whole: Tensor, wanted: Mapping[int, range]) -> Tensor:
    for dim, part in wanted.items():
        whole = whole.narrow(dim, part.start, len(part))
    return whole
