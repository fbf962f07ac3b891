"""Whatever stands in the place of a file of a run is refused in a line, or said and left out, or
read as it was written. It is never believed, waited for, or unforeseen."""

import json
import logging
import os
import random
import shutil
from dataclasses import dataclass, replace

import pytest
import yaml

from glam.config import EvaluationConfig, RunConfig
from glam.errors import UserError
from glam.files import SEAL, sealed
from glam.machine.resources import Resources
from glam.reporting.experts import domain_loads
from glam.runs import folder as folder_module
from glam.runs.finding import find_run
from glam.runs.folder import RunFolder
from glam.runs.identity import fingerprint, run_id
from glam.runs.listing import list_runs
from glam.runs.record import Record
from tests.runs.test_version_0_1 import FOLDER as FOLDER_0_1

HERE = Resources(threads=1, precision="float32", device="cpu", memory_bytes=10**9, cores=1)
SEEDS = range(40)
JSON = ("summary.json", "data.json", "routing.json", "generated.json", "layout.json")
RECORDED = {"summary.json": "summary", "data.json": "data", "routing.json": "routing",
            "generated.json": "generated", "layout.json": "layout"}  # fmt: skip
VALUES = (
    None,
    True,
    -1,
    0,
    7,
    1e300,
    10**400,
    float("nan"),
    "",
    "x",
    "a\nb",
    "../x",
    [],
    {},
    [[1]],
)


@dataclass
class Written:
    """A run of today with every file, and what is read of it."""

    folder: RunFolder
    config: RunConfig
    record: Record


@pytest.fixture(autouse=True)
def said_again():
    """Each test hears its warnings."""
    folder_module._warn_once.cache_clear()


@pytest.fixture
def run(tmp_path):
    config = RunConfig(evaluation=EvaluationConfig(tokens_per_domain=2048))
    folder = RunFolder(tmp_path / f"tiny-{run_id(config, HERE)}")
    folder.path.mkdir()
    folder.write_config(config)
    for name in JSON[:-1]:
        content = json.loads((FOLDER_0_1 / name).read_text())
        if name == "summary.json":
            content |= {"id": folder.id, "config_fingerprint": fingerprint(config, HERE)}
        folder.write_json(name, content)
    row = {"weight": "w", "layers": 1, "shape": [2, 3], "axes": [None, "data"], "bytes": 24}
    folder.write_json("layout.json", [row])
    shutil.copy(FOLDER_0_1 / "metrics.csv", folder.path)
    return Written(folder, config, Record.read(folder.path))


def places(node, path=()):
    """Where the leaves and the branches of nested lists and mappings are, but the top."""
    if path:
        yield path
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items if isinstance(node, dict | list) else ():
        yield from places(value, (*path, key)) if isinstance(value, dict | list) else [(*path, key)]


def changed(content, chance):
    """The content with a value changed, left out, or under another name."""
    whole = json.loads(json.dumps(content))
    *path, last = chance.choice([p for p in places(whole) if p[0] != SEAL])
    node = whole
    for key in path:
        node = node[key]
    match chance.randrange(4):
        case 0:
            del node[last]
        case 1 if isinstance(node, dict):
            node[f"{last}s"] = node.pop(last)
        case 2 if isinstance(node[last], int | float) and not isinstance(node[last], bool):
            node[last] = node[last] + chance.choice((1, -1, 0.5))
        case _:
            node[last] = chance.choice(VALUES)
    return whole


def put_in_place(file, chance):
    """Something that is no regular file, or a link."""
    aside = file.with_name(f"{file.name}.aside")
    file.rename(aside)
    match chance.randrange(6):
        case 0:
            file.mkdir()
        case 1:
            os.mkfifo(file)
        case 2:
            file.symlink_to("/dev/zero")
        case 3:
            file.symlink_to(file)
        case 4:
            file.symlink_to(aside)
        case _:
            file.symlink_to(file.parent)


def damage(file, chance):
    """Change a file in one of the ways in which files are damaged."""
    text = file.read_text()
    match chance.randrange(6):
        case 0:
            lines = text.splitlines(keepends=True)
            file.write_text("".join(lines[: chance.randrange(len(lines))]))
        case 1:
            file.write_text(text[: chance.randrange(len(text))])
        case 2:
            whole = bytearray(text.encode())
            whole[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
            file.write_bytes(bytes(whole))
        case 3:
            file.write_text(chance.choice(("", "[]", "{}", "3", "null", '"x"', 10**5 * "[", "\0")))
        case 4:
            put_in_place(file, chance)
        case _:
            load = yaml.safe_load if file.suffix == ".yaml" else json.loads
            dump = yaml.safe_dump if file.suffix == ".yaml" else json.dumps
            file.write_text(dump(changed(load(text), chance)))


def is_empty_list(file):
    return file.is_file() and file.read_text(errors="replace") == "[]"


def in_one_line(error):
    assert "\n" not in str(error)
    assert len(str(error)) < 600


@pytest.mark.parametrize("seed", SEEDS)
def test_a_damaged_configuration_is_refused_or_is_what_was_written(run, seed):
    damage(run.folder.config_file, random.Random(seed))
    try:
        assert run.folder.run_config() == run.config
    except UserError as refused:
        in_one_line(refused)
    [listed] = list_runs(run.folder.path.parent)
    assert listed.state == "done"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", JSON)
def test_a_damaged_file_is_left_out_and_said_or_is_what_was_written(run, name, seed, caplog):
    damage(run.folder.path / name, random.Random(seed))
    caplog.set_level(logging.WARNING, "glam")
    try:
        found = getattr(Record.read(run.folder.path), RECORDED[name])
    except UserError as refused:
        in_one_line(refused)
        assert name == "summary.json"
        return
    if found == getattr(run.record, RECORDED[name]):
        return
    if isinstance(found, dict) or not is_empty_list(run.folder.path / name):  # lists have no seal
        assert not found or isinstance(found, list)
        assert found or [line for line in caplog.messages if f"{name} cannot be read" in line]
    for line in caplog.messages:
        in_one_line(line)


@pytest.mark.parametrize("seed", range(15))
def test_a_damaged_table_of_metrics_has_the_rows_that_are_whole_or_none(run, seed):
    file, chance = run.folder.metrics_file, random.Random(seed)
    if seed % 3:
        text = file.read_text()
        file.write_text(text[: chance.randrange(len(text))])
    else:
        put_in_place(file, chance)
    columns = Record.read(run.folder.path).metrics.columns
    before = run.record.metrics.columns
    assert set(columns) <= set(before) or len(next(iter(columns.values()), ())) == 0


def test_a_quote_that_is_never_closed_is_said(run, caplog):
    file = run.folder.metrics_file
    first, *rest = file.read_text().splitlines(keepends=True)
    file.write_text(first + '"' + "".join(rest))
    assert Record.read(run.folder.path).metrics.columns == {}
    [line] = [line for line in caplog.messages if "metrics.csv" in line]
    assert "its curves are left out" in line


def test_a_load_of_no_expert_is_left_out_of_the_table(run):
    layer, expert = 1, "load/1/0"
    text = run.folder.metrics_file.read_text()
    assert expert in text
    before = run.record.metrics.load()[1][str(layer)].shape[1]
    for name in ("load/1/x", "load/1/", "load/1/²"):
        run.folder.metrics_file.write_text(text.replace(expert, name, 1))
        assert Record.read(run.folder.path).metrics.load()[1][str(layer)].shape[1] == before - 1


def test_what_has_no_seal_has_the_shape_that_pages_show(run, caplog):
    routing = run.record.routing
    routing["share"][0][0].append(0.5)
    (run.folder.path / "routing.json").write_text(json.dumps(routing))
    assert Record.read(run.folder.path).routing == {}
    assert "routing.json cannot be read" in caplog.text
    for key, odd in (("rollbacks", 5), ("rollbacks", [5]), ("diverged", [])):
        run.folder.summary_file.write_text(json.dumps(run.record.summary | {key: odd}))
        assert run.folder.summary() is None


def test_routing_of_other_domains_than_it_names_is_left_out_of_the_page(run):
    assert domain_loads(run.record)
    run.record.routing["domains"].pop()
    assert domain_loads(run.record) == []


def test_a_line_left_out_of_an_old_configuration_is_missed(run):
    """Files of 0.1 and 0.2 have no seal: every key has to stand in them."""
    lines = (FOLDER_0_1 / "config.yaml").read_text().splitlines(keepends=True)
    for count in range(len(lines)):
        run.folder.config_file.write_text("".join(lines[:count]))
        with pytest.raises(UserError, match=r"config.yaml cannot be read"):
            run.folder.run_config()


@pytest.mark.parametrize(
    ("key", "value"), [("seed", 1), ("model.d_ff", 17), ("training.tokens", 1), ("data.seed", 4)]
)
def test_another_value_in_an_old_configuration_is_of_another_run(tmp_path, key, value):
    run = RunFolder(shutil.copytree(FOLDER_0_1, tmp_path / FOLDER_0_1.name))
    content = yaml.safe_load(run.config_file.read_text())
    *path, last = key.split(".")
    node = content
    for name in path:
        node = node[name]
    node[last] = value
    run.config_file.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match="is not the configuration of the run 28f8bb0256"):
        run.run_config()
    run.summary_file.unlink()  # then the folder's name alone says which run it is
    with pytest.raises(UserError, match="is not the configuration of the run 28f8bb0256"):
        run.run_config()


def test_another_runs_files_are_told_by_the_id_in_the_folders_name(run, tmp_path):
    other = replace(run.config, seed=1)
    folder = RunFolder(tmp_path / f"tiny-{run_id(other, HERE)}")
    folder.path.mkdir()
    shutil.copy(run.folder.config_file, folder.path)
    with pytest.raises(UserError, match="is not the configuration of the run"):
        folder.run_config()
    folder.write_config(other)
    assert folder.run_config() == other
    shutil.copy(run.folder.summary_file, folder.path)
    with pytest.raises(UserError, match=r"summary.json is of the run .* and lies in"):
        folder.run_config()


def test_a_folder_with_any_other_configuration_is_no_run(tmp_path):
    (tmp_path / "config.yaml").write_text("defaults: [model]\n")
    with pytest.raises(UserError, match="there is no key defaults"):
        find_run(str(tmp_path), tmp_path)


def test_a_file_under_a_full_seal_may_be_older_than_a_key(run):
    content = yaml.safe_load(run.folder.config_file.read_text())
    del content[SEAL], content["training"]["log_every"], content["logger"]["mode"]
    run.folder.config_file.write_text(yaml.safe_dump(sealed(content)))
    assert run.folder.run_config() == run.config
