"""Losses and weights are those on record, bit for bit, on a machine such as the one that recorded
them."""

import json

import pytest
from same_digits import ONLY_OF_KERNELS, RECORD, RUNS, machine, measure

RECORDED = json.loads(RECORD.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def here():
    return machine()


@pytest.mark.parametrize("run", RUNS, ids=" ".join)
def test_a_run_has_the_digits_on_record(run, here, tmp_path):
    compared = {*RECORDED["machine"]} - ({*ONLY_OF_KERNELS} if run[-1] == "torch" else set())
    for name in sorted(compared):
        if here[name] != RECORDED["machine"][name]:
            pytest.skip(f"recorded with {name} {RECORDED['machine'][name]}, here {here[name]}")
    recorded = RECORDED["runs"][" ".join(run)]
    assert measure(*run, tmp_path / "run") == recorded
    assert len(recorded["loss"].split()) == 30
