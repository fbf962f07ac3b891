"""Plans in a terminal, as JSON, as CSV and as a page."""

import csv
import io
import json
import re

import pytest
from rich.console import Console

from glam.config import PlanTaskConfig, RunConfig
from glam.planning.plan import plan
from glam.reporting.plan import as_csv, as_json, notes, print_plans, rows, write_plans
from glam.reporting.plan_totals import totals
from glam.units import SPACE, duration
from tests.planning.test_preflight import composed

TINY = plan(RunConfig(task=PlanTaskConfig()))
LARGE = plan(composed("task=plan", "model=glam_64b64e", "hardware=tpu_v4_1024"))


def read_as(seconds: float) -> str:
    return duration(seconds).replace(SPACE, " ")


def told(plans, width=100, at_once=None) -> str:
    """With `at_once`: of a grid, that many runs side by side."""
    out = io.StringIO()
    all_runs = None if at_once is None else totals(plans, at_once)
    print_plans(plans, all_runs, Console(file=out, width=width))
    return out.getvalue().replace(SPACE, " ")


def test_the_table_names_parts_and_sums_beside_the_paper():
    text = told([LARGE])
    assert re.search(r"total\s+1.16 T\s+as the paper printed\s+1.20 T", text)
    assert re.search(r"experts\s+68.7 GFLOP\s+35%", text)
    assert re.search(r"energy\s+456 MWh", text)
    assert "326 W a device (the paper, chip and system) x PUE 1.11" in " ".join(text.split())


def test_a_small_run_is_in_units_of_its_size_and_dispatch_is_told_of_the_activations():
    text = told([{**TINY, "hours": 0.05, "megawatt_hours": 2.5e-7, "co2_tonnes": 1.2e-7}])
    assert re.search(r"time\s+3 min 00 s\s+energy\s+0.250 Wh\s+CO2\s+0.120 g", text)
    assert re.search(r"activations\s+\S+ MB\s+\d+%\s+of it for dispatch", text)


def test_preparing_the_text_is_told_where_there_is_some_to_prepare():
    sizes = {"stored_bytes": 2e9, "fetched_bytes": 0, "text_bytes": 5e9, "disk_bytes": 8e9}
    time = {"free_bytes": 7e9, "fits": False, "workers": 2, "hours": 1.5, "source": "3 MB/s"}
    text = told([{**TINY, "preparation": {"files": 40, **sizes, **time}}])
    assert re.search(r"text in them\s+5.00 GB\s+disk\s+8.00 GB\s+free there\s+7.00 GB", text)
    assert re.search(r"enough\s+NO", text)
    assert "Preparation: 3 MB/s." in text
    assert "Preparing" not in told([TINY])


def test_a_plan_that_does_not_fit_says_what_would():
    assert any("training.rematerialize=true it does" in note for note in notes([LARGE]))
    assert not any("Does not fit" in note for note in notes([TINY]))


def cell(plan, name, **changes):
    return {**plan, "cell": name, **changes}


GRID = [cell(TINY, f"num_experts=16, seed={seed}") for seed in range(50)]
DENSE = [cell(TINY, f"num_experts=1, seed={seed}", tokens=10**6) for seed in range(50)]


def test_a_grid_begins_with_its_totals_and_has_a_row_a_model():
    lines = told([*GRID, *DENSE], 80, at_once=2).splitlines()
    assert len(lines) < 16
    seconds = 100 * 3600 * TINY["hours"]
    assert lines[0].split(maxsplit=1) == ["runs", "100 of 2 distinct models"]
    assert lines[1] == f"one after the other   {read_as(seconds)} of training"
    assert lines[2].split(maxsplit=3)[3] == f"{read_as(seconds / 2)} of training"
    joules = 100 * TINY["megawatt_hours"] * 3.6e9
    assert lines[3].startswith(f"energy                {joules / 1e3:.1f} kJ")
    assert re.search(r"num_experts=16 +50 +1.22 M +\d+ MB +5.00 M", "\n".join(lines))
    assert re.search(r"num_experts=1 +50 +1.22 M +\d+ MB +1.00 M", "\n".join(lines))


def test_sources_of_throughput_are_told_apart_where_they_are_mixed():
    timed = [cell(one, one["cell"], throughput_kind="calibrated", hours=2.0) for one in DENSE]
    text = told([*GRID, *timed], at_once=1)
    modelled = read_as(50 * 3600 * TINY["hours"])
    assert f"calibrated for 100 h 00 min, modelled for {modelled} (~)" in text
    assert re.search(r"num_experts=16 .* ~\d", text)
    assert not re.search(r"num_experts=1 .* ~\d", text)
    assert "~" not in told(GRID, at_once=1)


def test_models_that_do_not_fit_are_said_in_one_note():
    large = [LARGE, {**LARGE, "model": "glam_other"}]
    assert sum("glam_64b64e, glam_other; with" in note for note in notes(large)) == 1


def test_the_shares_of_a_section_make_a_whole():
    found = [row for row in rows([LARGE]) if row.kind != "head"]
    for parts in (("attention", "feed forward", "experts", "gate", "output"),):
        shares = [int(row.texts[0].split()[-1][:-1]) for row in found if row.label in parts]
        assert sum(shares) == pytest.approx(100, abs=2)


def test_json_is_an_object_alone_and_an_array_in_a_grid():
    assert json.loads(as_json([TINY], several=False)) == TINY
    assert json.loads(as_json([TINY, LARGE], several=True)) == [TINY, LARGE]
    shared = {"parameters", "flops_per_token", "tokens", "tokens_per_second"}
    assert shared | {"bytes_per_device", "hours", "megawatt_hours", "co2_tonnes"} <= set(TINY)


def test_csv_has_a_row_a_plan_and_its_nested_names():
    found = list(csv.DictReader(io.StringIO(as_csv([TINY, LARGE]))))
    assert [row["model"] for row in found] == ["glam_tiny", "glam_64b64e"]
    assert float(found[1]["bytes_per_device/weights"]) == LARGE["bytes_per_device"]["weights"]
    assert found[0]["paper/name"] == ""


@pytest.mark.parametrize("plans", [[TINY], [TINY, LARGE], GRID])
def test_csv_has_no_empty_column_and_none_twice(plans):
    [header, *table] = csv.reader(io.StringIO(as_csv(plans)))
    assert len(set(header)) == len(header)
    assert all(any(row[index] for row in table) for index in range(len(header)))
    parents = {"/".join(name.split("/")[:-1]) for name in header if "/" in name}
    assert not parents & set(header)


def test_the_page_of_a_grid_has_its_totals_and_a_column_a_model(tmp_path):
    plans = [*GRID, *DENSE]
    text = write_plans(plans, tmp_path / "plan", totals(plans, 2)).read_text()
    assert "100 of 2 distinct models" in text
    assert text.count('<th scope="col" class="n">') == 2
    assert "seed=49" not in text
    with (tmp_path / "plan" / "plan.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 100


def test_memory_stands_beside_what_the_device_has(tmp_path):
    text = write_plans([TINY, LARGE], tmp_path / "plan").read_text().replace(SPACE, " ")
    held = LARGE["bytes_per_device"]
    assert "Memory needed, of what one device has" in text
    assert f"84.7 GB of {held['available'] / 1e9:.1f} GB: NO" in text


def test_the_page_stands_alone_and_links_what_lies_beside_it(tmp_path):
    page = write_plans([TINY, LARGE], tmp_path / "plan")
    text = page.read_text()
    for link in re.findall(r'(?:href|src)="([^"#]+)"', text):
        assert link.startswith("data:") or (page.parent / link).is_file()
    assert "experts.w_in_EMH" in text  # the layout table, resolved
    assert "expert, –, model" in text


def test_the_resolved_layout_is_printed_for_one_plan():
    text = told([LARGE])
    assert re.search(r"ffn.experts.w_in_EMH\s+32\s+64 x 8,192 x 32,768\s+expert, –, model", text)
    assert "w_in_EMH" not in told([LARGE, LARGE], at_once=1)
    assert "w_in_EMH" not in told([TINY])


def test_without_a_layout_the_table_says_why():
    gpt3 = plan(composed("task=plan", "model=gpt3_175b", "hardware=v100_10000"))
    assert "Memory of one device" not in told([gpt3])
    assert any("its file has no mesh" in note for note in notes([gpt3]))


@pytest.mark.parametrize(
    ("tonnes", "text"),
    [(1.2e-7, "0.120 g"), (0.5, "500 kg"), (40.1, "40.1 t"), (1230.4, "1,230 t")],
)
def test_carbon_dioxide_is_read_at_any_size(tonnes, text):
    assert re.search(rf"CO2\s+{text} *\n", told([{**TINY, "co2_tonnes": tonnes}]))


COMPILED = {
    "route": "torch_tpu",
    "versions": {"torch_tpu": "0.2.0", "libtpu": "0.0.52", "jax": "0.10.2"},
    "unread": None,
    "seconds": 61.4,
    "fits": True,
    "refusal": None,
    "argument_bytes": 4_550_000_000,
    "temporary_bytes": 18_530_000_000,
    "total_bytes": 23_080_000_000,
    "flops": 50e12,
    "flops_by_hand": 100e12,
    "flops_comparable": True,
    "collectives": {"all-gather": {"count": 1234, "bytes": 7_000_000_000}},
    "gathers": {"other weights over expert": {"count": 34, "bytes": 5_000_000}},
    "expert_weights_moved": 0,
}


def compiled(**changes) -> str:
    return told([{**LARGE, "compiled": {**COMPILED, **changes}}])


def test_what_the_compiler_says_stands_beside_what_is_counted():
    text = compiled()
    assert re.search(r"temporaries\s+18.5 GB\s+total\s+23.1 GB\s+fits\s+yes", text)
    assert re.search(r"over the hand count\s+0.50x", text)
    assert re.search(r"all-gather\s+7.00 GB in 1,234", text)
    assert re.search(r"gathered other weights over expert\s+5.00 MB in 34", text)
    assert re.search(r"expert weights moved\s+none", text)
    assert re.search(r"expert weights moved\s+2\s", compiled(expert_weights_moved=2))


def test_the_table_names_what_made_the_program_and_the_compiler():
    assert re.search(r"program by\s+torch_tpu 0.2.0\s+compiler\s+libtpu 0.0.52", compiled())


def test_a_program_that_cannot_be_read_back_says_so_instead_of_none():
    unread = {"collectives": {}, "gathers": {}, "expert_weights_moved": None, "unread": "INTERNAL"}
    assert not re.search(r"expert weights moved\s+none", compiled(**unread))
    said = notes([{**LARGE, "compiled": {**COMPILED, **unread}}])
    assert "What the compiled program sends cannot be read: INTERNAL." in said


def test_one_turn_of_a_loop_is_not_held_against_all_of_it():
    text = compiled(flops_comparable=False)
    assert "one turn of a loop" in text
    assert "0.50x" not in text


def test_what_the_compiler_refuses_is_marked_and_said_before_all_else():
    by = {name: COMPILED[name] for name in ("route", "versions")}
    refused = {
        **by,
        "seconds": 9.0,
        "fits": False,
        "refusal": "it does not fit",
        "total_bytes": 35e9,
    }
    plans = [{**LARGE, "compiled": refused}]
    assert re.search(r"total\s+35.0 GB\s+fits\s+NO", told(plans))
    assert notes(plans)[0] == "Refused by the TPU's compiler: it does not fit."
