"""The table of seeded mistakes fits the source: a change of the source changes its row."""

import pytest

from experiments.reliability.mistakes import ROOT, rows


@pytest.mark.parametrize("mistake", rows([]), ids=lambda mistake: mistake.says)
def test_a_mistake_is_put_where_the_source_has_its_right_form_once(mistake, tmp_path):
    path = tmp_path / mistake.file
    path.parent.mkdir(parents=True)
    path.write_text((ROOT / mistake.file).read_text(encoding="utf-8"), encoding="utf-8")
    before = mistake.put_into(tmp_path)
    assert before.count(mistake.right.replace("\\n", "\n")) == 1
    assert path.read_text(encoding="utf-8") != before
    assert all((ROOT / test.split("::")[0]).exists() for test in mistake.tests.split())
