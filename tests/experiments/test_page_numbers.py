"""What pages of measurements say of their tables, from tables of a few rows."""

import pytest

from experiments.pages import (
    compiled,
    copied_text,
    exactness,
    growths,
    overlap,
    peers,
    predictions,
    speeds,
    tables,
    tools,
)


@pytest.fixture
def studies(tmp_path, monkeypatch):
    """Writes tables where pages look for them."""
    monkeypatch.setattr(tables, "STUDIES", tmp_path)
    monkeypatch.setattr(peers, "STUDIES", tmp_path)

    def write(name: str, text: str) -> None:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    return write


def spaced(claim: object) -> str:
    """Without the spaces that keep a number and its unit on one line."""
    return str(claim).replace("\xa0", " ")


def test_a_prediction_is_near_within_its_share_and_the_furthest_are_told(studies):
    rows = ("1049", "951", "1061", "900", "949.8")  # the last is rounded to five percent
    lines = [f"{predicted},1000,-0.050" for predicted in rows]
    table = "\n".join(["predicted_mb,measured_mb,deviation", *lines])
    studies("memory/results.csv", table)
    assert spaced(predictions.predicted("memory/results.csv")) == (
        "**For 2 of 5.** So many configurations are within 5 %; all from 10 % below to 6 % above."
    )


def test_numbers_of_the_paper_that_follow_by_construction_are_counted(studies):
    head = "what,unit,published,computed,deviation,why"
    flops = '"64B/64E, FLOPs per token",FLOP,1.8e+11,1.954e+11,+0.085,'
    given = "hours,h,574,574,0,the share of peak is derived from the hours"
    studies("paper_numbers/numbers.csv", f"{head}\n{flops}\n{given}\n")
    said = spaced(predictions.paper_numbers())
    assert said.startswith("**For 1 of 2.** So many are within 2 % of what was published, 1 of")
    assert "195 G (published: 180 G)" in said


LAYER = """shape,dtype,candidate,ratio
T 4096 M 256 E 16,float32,limit,1
T 4096 M 256 E 16,float32,limitE,1.5
T 4096 M 256 E 16,float32,glam,1.2
T 4096 M 256 E 16,float32,HF Mixtral,2.4
T 4096 M 256 E 16,float32,torchtitan,2
T 2048 M 256 E 64,float32,limit,1
T 2048 M 256 E 64,float32,limitE,2
T 2048 M 256 E 64,float32,glam,1.5
T 2048 M 256 E 64,float32,HF Mixtral,1.5
"""


def test_a_layer_is_held_against_dense_products_and_with_64_experts_against_theirs(studies):
    studies("benchmarks/layer.csv", LAYER)
    assert speeds.limits("float32") == [
        ("T 4096 M 256 E 16", pytest.approx(1.2)),
        ("T 2048 M 256 E 64", pytest.approx(0.75)),
    ]
    assert speeds.shapes_to_limit("float32") == "0.75 to 1.20"
    assert speeds.shapes_to_peers("float32") == "0.60 to 1.00"


def test_a_number_that_two_rows_could_be_is_none_of_a_page(studies):
    studies("benchmarks/step.csv", "size,dtype,candidate,ratio\na,x,glam,1\na,x,glam,2\n")
    with pytest.raises(ValueError, match="2 rows"):
        speeds.measured("step", size="a", dtype="x", candidate="glam")
    assert speeds.measured("step", size="b") is None


def test_kernels_are_the_same_only_where_every_set_is_within_a_seed(studies):
    head = "kernels,mean_difference,largest_difference,low,high,sd_of_seeds,within"
    rows = "avx2,-0.002,0.009,-0.007,0.003,0.018,True\noff,0.02,0.03,0.01,0.03,0.018,"
    studies("digits/noise.csv", f"{head}\n{rows}True\n")
    assert exactness.same_within_noise().word == "Yes"
    studies("digits/noise.csv", f"{head}\n{rows}False\n")
    assert exactness.same_within_noise().word == "No"
    assert "`avx2` −0.0020 (−0.0070 to +0.0030)" in exactness.same_within_noise().sentence


def test_the_worst_of_both_sizes_stands_for_an_operation(studies):
    rows = [
        f"{kernels},loss,{size},float32,{error}"
        for kernels, errors in (("on", (2e-6, 4e-6)), ("avx2", (1e-6, 1e-6)), ("off", (1e-6, 8e-7)))
        for size, error in zip("ab", errors, strict=True)
    ]
    lines = "\n".join(["GLAM_KERNELS,operation,size,precision,difference", *rows])
    studies("digits/operations.csv", lines)
    assert "| loss | 4.0e-06 / 1.0e-06 / 1.0e-06 |  |" in exactness.operations_table()
    assert "the error of loss is 4.0 times" in exactness.worst_operation()


def test_overlap_is_found_whole_only_where_nothing_is_missed_or_made_up(studies):
    head = "items,planted,planted found,flagged,of them word for word in the text"
    studies("contamination/recall.csv", f"{head}\nwhole,500,500,573,573\n")
    assert overlap.overlap_found().word == "Yes"
    for row in ("whole,500,499,572,572", "whole,500,500,573,572"):
        studies("contamination/recall.csv", f"{head}\n{row}\n")
        assert overlap.overlap_found().word == "No"


def test_the_loss_without_copies_is_paired_by_seed(studies):
    rows = "False,0,5.0\nTrue,0,5.2\nFalse,1,4.0\nTrue,1,4.4\n"
    studies("deduplication/loss.csv", f"data.dedup.near,seed,mean\n{rows}")
    assert "| +0.300 (−0.971, +1.571) |" in copied_text.loss_without_copies()


def test_sizes_far_from_the_line_are_listed(studies):
    head = "axis,value,precision,ms,departure,memory_departure"
    rows = "width,64,bfloat16,40,0.46,0.1\nwidth,128,bfloat16,70,-0.1,-0.02\n"
    threads = "threads,2,bfloat16,10,0.3,\n"
    studies("growth/sizes.csv", f"{head}\n{rows}{threads}")
    assert growths.grows_as_counted().word == "At 1 of 2 sizes"
    assert growths.departures().splitlines()[2:] == ["| width | 64 | bfloat16 | +46 % |"]


def test_where_the_time_goes_is_told_of_a_fresh_clone_and_of_prepared_text(studies):
    head = "kernels,run,phase,seconds,share,times"
    fresh = "on,fresh clone,start,10,0.1,1\non,fresh clone,training,90,0.9,36\n"
    prepared = "on,text prepared,start,5,0.05,1\non,text prepared,training,95,0.95,36\n"
    studies("growth/run_time.csv", f"{head}\n{fresh}{prepared}")
    table, told = growths.run_time().split("\n\n")
    assert table.splitlines()[2:] == [
        "| start | 10.0 (10.0\xa0%) | 1 |",
        "| training | 90.0 (90.0\xa0%) | 36 |",
    ]
    assert told.replace("\xa0", " ") == (
        "With `on` the run takes 1 min 40 s in a fresh clone, of which 10 % is not training, and "
        "1 min 40 s where the text is prepared (5 %)."
    )


def test_ways_to_install_are_told_by_their_medians(studies):
    head = "round,way,seconds,cpu_seconds,install_seconds,first_import_seconds"
    rows = "1,pip,30,25,20,10\n2,pip,40,27,28,12\n"
    studies("growth/install.csv", f"{head}\n{rows}")
    assert growths.install_table().splitlines()[2:] == ["| `pip` | 24.0 | 11.0 | 35.0 | 26.0 |"]


def test_tables_of_two_programs_are_said_to_be_of_both(studies):
    head = "model.num_experts,id,status,kernels"
    studies("old/results.csv", f"{head}\n1,x,done,\n")
    studies("new/results.csv", f"{head}\n1,x,done,amx\n")
    old, new = "old/results.csv", "new/results.csv"
    assert tables.program(old) == "before kernels"
    assert tables.program(new) == "with kernels"
    assert tables.program(old, new) == "before and with kernels"
    assert tables.program() == "with kernels"


def test_a_tie_is_not_won_alone(studies):
    head = "work,shape,dtype,candidate,ms,machine,versions"
    rows = ["layer,a,float32,glam,1", "layer,a,float32,other,1.02", "layer,b,float32,glam,1"]
    rows += ["layer,b,float32,other,1.5"]
    studies("peers/layer.csv", "\n".join([head, *(f"{row},m,v" for row in rows)]))
    assert peers.beside_peers().word == "In 1 of 2 rows"
    assert "Not measured yet: step and generation." in peers.peer_table()


def test_kills_are_counted_and_one_burst_that_is_not_exact_is_a_no(studies):
    head, row = "set_up,signals,kills,seconds,exact,differs", "grid,x,2,14.3,yes,"
    studies("reliability/chaos.csv", f"{head}\n{row}\n{row}\n")
    assert str(tools.killed_and_exact()).startswith("**Yes.** 2 of 2 bursts (4 kills, 1 set-up)")
    studies("reliability/chaos.csv", f"{head}\n{row}\n1 thread,x,1,2.0,no,loss\n")
    assert tools.killed_and_exact().word == "No"


def test_every_tool_has_a_page():
    assert {one.page for one in tools.TOOLS} <= {
        file.parent.name for file in tables.STUDIES.glob("*/README.md")
    }


def test_gathers_are_told_by_what_is_gathered_and_the_rest_by_its_kind(studies):
    def quoted(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    sent = '{"all-gather": {"count": 5, "bytes": 2e9}, "all-to-all": {"count": 3, "bytes": 1e9}}'
    gathers = '{"dense": {"count": 5, "bytes": 2e9}}'
    row = "model=glam_1b64e hardware=tpu_v4_64,torch_xla,64,yes,0"
    head = "case,route,chips,fits,expert_weights_moved,collectives,gathers"
    studies("tpu_compile/results.csv", f"{head}\n{row},{quoted(sent)},{quoted(gathers)}\n")
    lines = compiled.sent_table().splitlines()
    assert lines[0] == "| model | chips | program by | gathered: dense | all-to-all |"
    assert lines[2] == "| 1.7B/64E | 64 v4 | torch_xla | 2 GB in 5 | 1 GB in 3 |"
    assert "none moves" in compiled.moved()
