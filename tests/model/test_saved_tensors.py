"""Tensors in files of several processes: every part of every one, against slices of the whole."""

import itertools

import pytest
import torch
from safetensors.torch import save_file

from glam.errors import UserError
from glam.model.saved_tensors import (
    SafetensorsSource,
    SavedTensors,
    StateSource,
    check_shape,
    chunk,
)

WHOLE = {
    "w": torch.arange(7 * 6).view(7, 6).float(),
    "experts": torch.arange(8 * 3 * 4).view(8, 3, 4).float(),
    "columns": torch.arange(8 * 4).view(8, 1, 4).float(),
    "scale": torch.arange(5).float(),
    "step": torch.tensor(3.0),
}
SPLITS = {"w": (0, 7), "experts": (2, 4), "columns": (0, 8)}


def parts_of(ranks):
    """What each process has, as `torch.chunk` splits it."""
    made = [{} for _ in range(ranks)]
    for name, tensor in WHOLE.items():
        if name not in SPLITS:
            made[0][name] = tensor
            continue
        dim, _ = SPLITS[name]
        pieces = list(tensor.chunk(ranks, dim))
        nothing = tensor.narrow(dim, 0, 0)
        for part, piece in itertools.zip_longest(made, pieces, fillvalue=nothing):
            part[name] = piece.contiguous()
    return made


def written(path, ranks):
    files = [path / f"model-{rank}.safetensors" for rank in range(ranks)]
    for file, part in zip(files, parts_of(ranks), strict=True):
        save_file(part, file)
    return files


@pytest.fixture(params=[1, 2, 4, 8])
def ranks(request):
    return request.param


@pytest.fixture(params=["format 2", "format 1", "format 1, state"])
def saved(request, ranks, tmp_path):
    splits = SPLITS if request.param == "format 2" else {n: dim for n, (dim, _) in SPLITS.items()}
    files = written(tmp_path, ranks)
    if request.param == "format 1, state":
        parts = zip(files, parts_of(ranks), strict=True)
        return SavedTensors([StateSource(file, part) for file, part in parts], splits)
    return SavedTensors([SafetensorsSource(file) for file in files], splits)


def test_whole_tensors_are_those_that_were_split(saved):
    assert set(saved) == set(WHOLE)
    for name, tensor in WHOLE.items():
        assert saved.shape(name) == tuple(tensor.shape)
        assert torch.equal(saved[name], tensor)


def test_every_part_along_every_dimension_is_that_of_the_whole(saved):
    for name, tensor in WHOLE.items():
        for dim, size in enumerate(tensor.shape):
            for start, stop in itertools.combinations_with_replacement(range(size + 1), 2):
                found = saved.read(name, {dim: range(start, stop)})
                assert torch.equal(found, tensor.narrow(dim, start, stop - start)), (name, dim)


# Of six processes, 2 by 3: along both axes, along the first, and along the second.
GRIDS = {
    "w": [(0, 7, 2, 3), (1, 6, 3, 1)],
    "experts": [(2, 4, 3, 1), (0, 8, 2, 3)],
    "columns": [(0, 8, 2, 3)],
    "scale": [(0, 5, 3, 1)],
}


def written_in_a_grid(path):
    """A file of each process; what several have, the first of them writes."""
    files = [path / f"model-{rank}.safetensors" for rank in range(6)]
    for rank, file in enumerate(files):
        at, mine = {3: rank // 3, 1: rank % 3}, {}
        for name, tensor in WHOLE.items():
            grid = GRIDS.get(name, [])
            if any(at[step] for step in {1, 3} - {axis[3] for axis in grid}):
                continue
            for dim, size, chunks, step in grid:
                here = chunk(size, at[step], chunks)
                tensor = tensor.narrow(dim, here.start, len(here))
            mine[name] = tensor.contiguous()
        save_file(mine, file)
    return SavedTensors([SafetensorsSource(file) for file in files], GRIDS)


def test_every_part_of_a_grid_is_that_of_the_whole(tmp_path):
    saved = written_in_a_grid(tmp_path)
    for name, tensor in WHOLE.items():
        assert saved.shape(name) == tuple(tensor.shape)
        assert torch.equal(saved[name], tensor)
        ranges = [itertools.combinations(range(size + 1), 2) for size in tensor.shape[-2:]]
        for each in itertools.product(*ranges):
            first = tensor.ndim - len(each)
            parts = {first + n: range(*one) for n, one in enumerate(each)}
            index = tuple(slice(*one) for one in each)
            assert torch.equal(saved.read(name, parts), tensor[(..., *index)]), name


def test_a_grid_of_more_files_than_there_are_is_refused(tmp_path):
    saved = SavedTensors([SafetensorsSource(f) for f in written(tmp_path, 1)], GRIDS)
    with pytest.raises(UserError, match="holds something else than was saved"):
        saved["w"]


def test_only_the_files_that_hold_a_part_are_read(tmp_path):
    files = written(tmp_path, 4)
    saved = SavedTensors([SafetensorsSource(file) for file in files], SPLITS)
    for file in files[1:3]:
        file.unlink()
    assert torch.equal(saved.read("w", {0: range(6, 7)}), WHOLE["w"][6:])
    assert saved.read("w", {0: range(7, 7)}).shape == (0, 6)
    with pytest.raises(UserError, match="cannot be read"):
        saved.read("w", {0: range(2, 3)})


def test_what_is_read_does_not_change_with_the_file(tmp_path):
    [file] = written(tmp_path, 1)
    found = SavedTensors([SafetensorsSource(file)], {})["w"]
    file.write_bytes(bytes(file.stat().st_size))
    assert torch.equal(found, WHOLE["w"])


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 5, 8, 16])
@pytest.mark.parametrize("size", [0, 1, 7, 8])
def test_a_chunk_is_that_of_torch(size, ranks):
    pieces = [piece.tolist() for piece in torch.arange(size).chunk(ranks)] if size else []
    chunks = [list(chunk(size, rank, ranks)) for rank in range(ranks)]
    assert [one for one in chunks if one] == pieces
    assert not any(chunks[len(pieces) :])


def test_a_file_that_holds_something_else_is_refused_in_a_line(tmp_path):
    [file] = written(tmp_path, 1)
    saved = SavedTensors([SafetensorsSource(file)], {})
    with pytest.raises(UserError, match=r"holds something else .*\(no absent\); move"):
        check_shape(saved, "absent", WHOLE["w"])
    with pytest.raises(UserError, match=r"w \[7, 6\], not \[6, 7\]"):
        check_shape(saved, "w", WHOLE["w"].T)
    file.write_bytes(b"no safetensors")
    with pytest.raises(UserError, match=r"model-0\.safetensors holds something else") as refused:
        saved.read("w")
    assert "\n" not in str(refused.value)
