import csv

import numpy as np

from experiments.ablations.stability import as_markdown, main, spikes, table


def test_a_spike_is_a_point_far_above_those_before_it():
    falling = np.linspace(7, 4, 100)
    assert spikes(falling) == 0
    risen = falling.copy()
    risen[50] += 1
    assert spikes(risen) == 1
    risen[3] += 1  # the rate still rises there
    assert spikes(risen) == 1


def test_the_table_has_a_row_a_value_over_all_its_runs(tmp_path):
    study = tmp_path / "studies" / "balance" / "study.csv"
    study.parent.mkdir(parents=True)
    columns = "kind,seed,run,status,load/busiest,load/idlest,load/dropped,skipped_steps"
    lines = [columns]
    for kind, busiest in (("none", 4.0), ("gshard", 1.5)):
        for seed in range(2):
            run = tmp_path / f"{kind}-{seed}"
            run.mkdir()
            losses = np.linspace(7, 4, 40)
            losses[20] += kind == "none"
            head = "loss,load/1/0,load/1/1,load/3/0,load/3/1"
            loads = {9: "0.5,0.5,0.25,0.75", 39: "0.125,0.875,0.5,0.5"}
            rows = [f"{loss},{loads.get(n, ',,,')}" for n, loss in enumerate(losses)]
            (run / "metrics.csv").write_text("\n".join([head, *rows]))
            lines.append(f"{kind},{seed},{run.name},done,{busiest + seed},0.5,0.25,{seed}")
    study.write_text("\n".join(lines))
    assert table(study, "kind").splitlines()[2:] == [
        "| none | 2 | 4.50 | 1.62 | 0.50 | 25.0 % | 2 | 1 | 0 |",
        "| gshard | 2 | 2.00 | 1.62 | 0.50 | 25.0 % | 0 | 1 | 0 |",
    ]
    kept = tmp_path / "loads.csv"
    moved = tmp_path / "results.csv"
    study.rename(moved)
    assert main([str(moved), "kind", f"runs={tmp_path}", f"to={kept}"]) == 0
    with kept.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["no slot"] for row in found] == ["25.0 %", "25.0 %"]
    assert as_markdown(found).splitlines()[2].startswith("| none | 2 | 4.50 |")
