"""Programs of a few lines, read."""

import pytest

from glam.planning.hlo import Collective, Program, Sent

MESH = {"expert": 4, "model": 2}
OVER_MODEL = "replica_groups=[4,2]<=[8]"
OVER_EXPERT = "replica_groups=[2,4]<=[4,2]T(1,0)"
NOTHING = frozenset[int]()


def entry(*lines: str, before: str = "") -> str:
    body = "\n".join(f"  {line}" for line in lines)
    head = "ENTRY %main (p.0: f32[8,4], p.1: f32[2]) -> f32[8]"
    return f"HloModule step\n{before}\n{head} {{\n{body}\n}}\n"


def sent(text: str) -> dict[Collective, Sent]:
    return Program(text).collectives(MESH)


P0 = "%p.0 = f32[8,4]{1,0} parameter(0)"
P1 = "%p.1 = f32[2]{0} parameter(1)"


def test_what_is_gathered_is_an_argument_however_it_was_moved_before():
    fused = (
        "%fused (a.1: f32[8,4]) -> bf16[32] {\n"
        "  %a.1 = f32[8,4]{1,0} parameter(0)\n"
        "  %half = bf16[8,4]{1,0} convert(%a.1)\n"
        "  ROOT %flat = bf16[32]{0} bitcast(%half)\n}\n"
    )
    text = entry(
        P0,
        P1,
        "%copy.2 = f32[8,4]{0,1} copy(%p.0)",
        "%flat.3 = bf16[32]{0} fusion(%copy.2), kind=kLoop, calls=%fused",
        f"ROOT %all-gather.4 = bf16[128]{{0}} all-gather(%flat.3), {OVER_EXPERT}, dimensions={{0}}",
        before=fused,
    )
    gathered = Collective("all-gather", "expert", frozenset({0}))
    assert sent(text) == {gathered: Sent(1, 128 * 2)}


def test_what_is_computed_of_an_argument_is_not_the_argument():
    text = entry(
        P0,
        P1,
        "%product.2 = f32[8,4]{1,0} multiply(%p.0, %p.0)",
        f"ROOT %all-gather.3 = f32[16,4]{{1,0}} all-gather(%product.2), {OVER_MODEL}",
    )
    assert sent(text) == {Collective("all-gather", "model", NOTHING): Sent(1, 16 * 4 * 4)}


STATE = "(s32[], f32[8,4]{1,0}, /*index=2*/f32[3,2]{1,0})"
LOOP = """
%body (state: (s32[], f32[8,4], f32[3,2])) -> (s32[], f32[8,4], f32[3,2]) {
  %state = (s32[], f32[8,4]{1,0}, /*index=2*/f32[3,2]{1,0}) parameter(0)
  %turn = s32[] get-tuple-element(%state), index=0
  %weight = f32[8,4]{1,0} get-tuple-element(%state), index=1
  %kept = f32[3,2]{1,0} get-tuple-element(%state), index=2
  %row = f32[1,4]{1,0} dynamic-slice(%weight, %turn), dynamic_slice_sizes={1,4}
  %gathered = f32[4,4]{1,0} all-gather(%row), replica_groups={{0,2,4,6},{1,3,5,7}}, dimensions={0}
  %twice = f32[4,4]{1,0} add(%gathered, %gathered)
  %sum = f32[1,2]{1,0} all-reduce(%twice), replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%add
  %stacked = f32[3,2]{1,0} dynamic-update-slice(%kept, %sum, %turn)
  ROOT %next = (s32[], f32[8,4]{1,0}, f32[3,2]{1,0}) tuple(%turn, %weight, %stacked)
}

%condition (state.1: (s32[], f32[8,4], f32[3,2])) -> pred[] {
  %state.1 = (s32[], f32[8,4]{1,0}, f32[3,2]{1,0}) parameter(0)
  %turn.1 = s32[] get-tuple-element(%state.1), index=0
  %turns = s32[] constant(3)
  ROOT %goes_on = pred[] compare(%turn.1, %turns), direction=LT
}
"""


def test_a_loop_sends_as_often_as_it_turns_and_its_weights_are_those_it_began_with():
    text = entry(
        P0,
        P1,
        "%zero = s32[] constant(0)",
        "%none = f32[3,2]{1,0} broadcast(%zero), dimensions={}",
        f"%begin = {STATE} tuple(%zero, %p.0, %none)",
        f"%end = {STATE} while(%begin), condition=%condition, body=%body",
        "%out = f32[3,2]{1,0} get-tuple-element(%end), index=2",
        f"ROOT %all-gather.9 = f32[3,4]{{1,0}} all-gather(%out), {OVER_MODEL}, dimensions={{1}}",
        before=LOOP,
    )
    assert sent(text) == {
        Collective("all-gather", "expert", frozenset({0})): Sent(3, 3 * 4 * 4 * 4),
        Collective("all-reduce", "expert and model", NOTHING): Sent(3, 3 * 2 * 4),
        # What a loop computes is what it leaves behind: no argument.
        Collective("all-gather", "model", NOTHING): Sent(1, 3 * 4 * 4),
    }


def test_what_is_started_and_waited_for_counts_once_and_by_its_result():
    text = entry(
        P0,
        P1,
        "%start = (f32[2]{0}, f32[8]{0}) all-gather-start(%p.1), replica_groups={{0,1}}",
        "ROOT %done = f32[8]{0} all-gather-done(%start)",
    )
    assert sent(text) == {Collective("all-gather", "model", frozenset({1})): Sent(1, 32)}


def test_a_fused_sum_and_scatter_is_one_that_sends_what_is_left():
    fused = (
        "%all-reduce-scatter.1 (a.2: f32[8,4]) -> f32[2,4] {\n"
        "  %a.2 = f32[8,4]{1,0} parameter(0)\n"
        f"  %whole = f32[8,4]{{1,0}} all-reduce(%a.2), {OVER_EXPERT}, to_apply=%add\n"
        "  ROOT %part = f32[2,4]{1,0} dynamic-slice(%whole)\n}\n"
    )
    text = entry(
        P0,
        P1,
        "%gradient = f32[8,4]{1,0} add(%p.0, %p.0)",
        "ROOT %mine = f32[2,4]{1,0} fusion(%gradient), kind=kCustom, calls=%all-reduce-scatter.1",
        before=fused,
    )
    assert sent(text) == {Collective("reduce-scatter", "expert", NOTHING): Sent(1, 2 * 4 * 4)}


def test_arrays_laid_side_by_side_by_a_maximum_are_still_the_arguments():
    text = entry(
        P0,
        P1,
        "%low = f32[] constant(-inf)",
        "%left = f32[4]{0} pad(%p.1, %low), padding=0_2",
        "%right = f32[4]{0} pad(%p.1, %low), padding=2_0",
        "%both = f32[4]{0} maximum(%left, %right)",
        f"ROOT %all-gather.2 = f32[16]{{0}} all-gather(%both), {OVER_EXPERT}",
    )
    assert sent(text) == {Collective("all-gather", "expert", frozenset({1})): Sent(1, 64)}


@pytest.mark.parametrize(
    ("groups", "over"),
    [
        ("mesh['axis_0'=4,'axis_1'=2] {'axis_0'}", "expert"),
        ("mesh['axis_0'=4,'axis_1'=2] {'axis_1'}", "model"),
        ("mesh['axis_0'=4,'axis_1'=2] {'axis_0','axis_1'}", "expert and model"),
        ("mesh['axis_0'=2,'axis_1'=2,'axis_2'=2] {'axis_1'}", "expert"),
    ],
)
def test_groups_may_be_axes_of_a_mesh(groups, over):
    gather = f"ROOT %all-gather.2 = f32[8]{{0}} all-gather(%p.1), replica_groups={groups}"
    text = entry(P0, P1, f"{gather}, dimensions={{0}}, use_global_device_ids=true")
    assert sent(text) == {Collective("all-gather", over, frozenset({1})): Sent(1, 32)}


def test_a_text_without_a_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        Program("HloModule nothing")
