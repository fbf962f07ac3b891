"""A checkpoint's manifest is believed for its digest, its words and the names it lists."""

import json
from dataclasses import replace

import pytest

from glam.runs.manifest import DamagedCheckpointError, FileDigest, Manifest, digest, part_name

FILE = FileDigest(sha256="0" * 64, bytes=8)
FILES = {"model.safetensors": FILE, "optimizer.safetensors": FILE, "state.pt": FILE}


def manifest(**changes):
    told = {"step": 3, "tokens": 96, "status": "training", "code": "c", "data": "d"}
    return Manifest(**{**told, "files": FILES, "split": {"w": (0, 8)}, **changes})


def said(**changes):
    """The bytes of a manifest that says something else, under a digest of its own."""
    content = {**json.loads(manifest().to_json()), **changes}
    return json.dumps({**content, "digest": digest(content)}).encode()


def first_format(**changes):
    """As glam 0.1 wrote it: without a digest."""
    files = {name: {"sha256": "0" * 64, "bytes": 8} for name in ("model.safetensors", "state.pt")}
    told = {"step": 3, "tokens": 96, "status": "done", "code": "c", "data": "d", "files": files}
    return json.dumps({**told, **changes}).encode()


def test_what_is_written_is_read():
    found = Manifest.read(manifest().to_json().encode())
    assert (found.step, found.tokens, found.status, found.split) == (
        3,
        96,
        "training",
        {"w": (0, 8)},
    )
    assert found.files == FILES
    assert found.parts("optimizer") == ["optimizer.safetensors"]


def test_tensors_in_a_grid_are_for_versions_that_know_them():
    grid = {"w": [(0, 8, 2, 2), (1, 6, 2, 1)]}
    content = replace(manifest(), grid=grid).to_json()
    assert Manifest.read(content.encode()).grid == grid
    assert json.loads(content)["format"] == 3
    assert json.loads(manifest().to_json())["format"] == 2


def test_a_machine_is_read_as_it_was_recorded():
    now = {"processor": "Xeon", "instruction_sets": ["amx"], "kernels": "amx", "GLAM_KERNELS": "on"}
    machine = {**now, "earlier": [{**now, "processor": None, "instruction_sets": []}]}
    assert Manifest.read(said(machine=machine)).machine == machine


def test_every_flipped_bit_is_found():
    content = manifest().to_json().encode()
    for position in range(len(content)):
        for bit in range(8):
            harmed = bytearray(content)
            harmed[position] ^= 1 << bit
            with pytest.raises(DamagedCheckpointError):
                Manifest.read(bytes(harmed))


def test_a_manifest_cut_anywhere_is_damaged():
    content = manifest().to_json().encode()
    for length in range(len(content) - 2):
        with pytest.raises(DamagedCheckpointError):
            Manifest.read(content[:length])


def test_one_of_the_first_format_is_read_without_a_digest():
    assert Manifest.read(first_format()).status == "done"
    assert Manifest.read(first_format(split={"w": 1})).split == {"w": 1}


NAMES = ["../x.safetensors", "/etc/passwd", "sub/model.safetensors", "..", "model.bin", ""]


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "dona"},
        {"status": "Done"},
        {"step": "3"},
        {"step": 3.0},
        {"step": None},
        {"tokens": [96]},
        {"files": []},
        {"files": {"model.safetensors": "0" * 64}},
        {"split": [0]},
        {"machine": "this one"},
        {"machine": {"processor": 3}},
        {"machine": {"instruction_sets": "avx"}},
        {"machine": {"earlier": "that one"}},
        {"machine": {"earlier": [{"kernels": []}]}},
        *({"files": {name: {"sha256": "0" * 64, "bytes": 8}}} for name in NAMES),
        {"files": {}},
        {"files": {"state.pt": {"sha256": "0" * 64, "bytes": 8}}},
        {"files": {"model-00002-of-00002.safetensors": {"sha256": "0" * 64, "bytes": 8}}},
    ],
    ids=str,
)
@pytest.mark.parametrize("write", [said, first_format])
def test_another_shape_is_damage(write, changes):
    with pytest.raises(DamagedCheckpointError) as damage:
        Manifest.read(write(**changes))
    assert "\n" not in str(damage.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"step": ' + b"9" * 5_000 + b"}"],
)
def test_anything_else_is_damage(content):
    with pytest.raises(DamagedCheckpointError) as damage:
        Manifest.read(content)
    assert "\n" not in str(damage.value)


def test_what_a_later_version_adds_is_passed_over():
    assert Manifest.read(said(colour="blue")).step == 3


def test_parts_are_named_by_their_process():
    assert part_name("model.safetensors", 0, 1) == "model.safetensors"
    assert part_name("model.safetensors", 1, 4) == "model-00002-of-00004.safetensors"
    assert part_name("model-00001-of-00004.safetensors", 3, 4) == "model-00004-of-00004.safetensors"
