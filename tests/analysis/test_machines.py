from typing import Any

from glam.analysis.machines import machine_words, unlike_machines
from glam.analysis.paired import StudyRow

XEON = {"processor": "Xeon", "instruction_sets": ["amx_bf16"], "kernels": "amx"}
OFF = XEON | {"kernels": "torch's operators", "GLAM_KERNELS": "off"}


def cells(*machines: dict[str, Any] | None) -> list[StudyRow]:
    """Finished runs on these machines; None of a run folder from before they were recorded."""
    return [
        StudyRow.of(
            {"run": str(i), "values": {}, "status": "done", "summary": {"machine": machine}}
        )
        for i, machine in enumerate(machines)
    ]


def test_runs_on_unlike_machines_make_a_sentence_with_the_count_of_each():
    assert unlike_machines(cells(XEON, OFF, XEON)) == (
        "These runs were computed on unlike processors or kernels, which round differently: "
        "2 on Xeon (amx kernels); 1 on Xeon (torch's operators)."
    )


def test_like_machines_and_unknown_ones_make_none():
    assert unlike_machines(cells(XEON, XEON, None)) == ""
    assert unlike_machines(cells(None, None)) == ""
    assert unlike_machines([]) == ""
    assert machine_words(cells(None, XEON)) == ["", "Xeon (amx kernels)"]


def test_a_run_that_was_moved_is_unlike_one_that_was_not():
    moved = XEON | {"earlier": [OFF]}
    assert machine_words(cells(moved)) == ["Xeon (torch's operators), then Xeon (amx kernels)"]
    assert "1 on Xeon (torch's operators), then Xeon" in unlike_machines(cells(XEON, moved))
