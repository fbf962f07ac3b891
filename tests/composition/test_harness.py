"""The names of lm-eval's tasks, as its own index has them."""

import pytest
from lm_eval.tasks import TaskManager

from glam.composition.harness import check_tasks, task_families, tasks_folder
from glam.errors import UserError


@pytest.mark.parametrize("family", ["arc", "super_glue", "mmlu", "anli"])
def test_every_name_that_lm_eval_knows_is_found_with_its_folder(family):
    folder = tasks_folder() / family
    known = TaskManager(include_defaults=False, include_path=str(folder)).all_tasks
    assert known
    assert [name for name in known if folder not in task_families().get(name, ())] == []


def test_an_unknown_task_is_refused_with_the_nearest_names():
    with pytest.raises(UserError) as refused:
        check_tasks(["arc_esay"])
    assert str(refused.value).endswith("did you mean arc_easy or arc_es?")
    with pytest.raises(UserError, match="did you mean held_out"):
        check_tasks(["held_ouut"])
    with pytest.raises(
        UserError, match=r"suites are .*held_out.*; lm-eval's tasks: lm_eval ls tasks"
    ):
        check_tasks(["zzzzzzzzzzzz"])


def test_suites_and_tasks_are_not_mixed():
    with pytest.raises(UserError, match="evaluation=held_out,arc_easy mixes suites and tasks"):
        check_tasks(["held_out", "arc_easy"])
