import math

from glam.training.metrics import MetricsFile, columns

HEADER = columns(["web"], ["news"], [1], 2)


def test_the_header_names_sources_domains_layers_and_experts():
    assert HEADER[:4] == ["step", "tokens", "train_seconds", "joules"]
    assert HEADER[10:] == [
        "loss/web",
        "held_out/news",
        "held_out/mean",
        "load/1/0",
        "load/1/1",
        "dropped/1",
    ]


def written(path, *steps):
    metrics = MetricsFile(path, HEADER)
    metrics.cut_back(0)
    for step in steps:
        metrics.write({"step": step, "tokens": 8 * step, "loss": 1 / 3, "grad_norm": math.nan})
    return metrics


def test_a_row_keeps_every_digit_and_leaves_empty_what_was_not_measured(tmp_path):
    written(tmp_path / "m.csv", 5)
    _, row = (tmp_path / "m.csv").read_text().splitlines()
    cells = dict(zip(HEADER, row.split(","), strict=True))
    assert cells["step"] == "5"
    assert float(cells["loss"]) == 1 / 3
    assert cells["grad_norm"] == cells["held_out/news"] == ""


def test_cutting_back_keeps_rows_up_to_the_step_to_the_letter(tmp_path):
    path = tmp_path / "m.csv"
    metrics = written(path, 5, 10, 15)
    lines = path.read_text().splitlines(keepends=True)
    metrics.cut_back(10)
    assert path.read_text() == "".join(lines[:3])
    metrics.cut_back(0)
    assert path.read_text() == lines[0]


def test_a_torn_last_row_is_dropped(tmp_path):
    path = tmp_path / "m.csv"
    metrics = written(path, 5, 10)
    whole = path.read_text().splitlines(keepends=True)
    path.write_text("".join(whole[:2]) + whole[2][:7])
    metrics.cut_back(10)
    assert path.read_text() == "".join(whole[:2])


def test_a_missing_file_is_begun(tmp_path):
    MetricsFile(tmp_path / "m.csv", HEADER).cut_back(10)
    assert (tmp_path / "m.csv").read_text() == ",".join(HEADER) + "\n"
