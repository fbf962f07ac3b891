"""A grid's process is given its configuration in a file."""

import pytest

from glam.errors import UserError
from glam.tasks.cell import run_cell


@pytest.mark.parametrize("content", [None, "{"])
def test_a_file_that_cannot_be_read_is_refused_in_one_line(tmp_path, content):
    file = tmp_path / "cell.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UserError, match="run the grid's command again") as refused:
        run_cell(file)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("config", ["{}", '{"task": 5}', '{"nosuch": 1}'])
def test_a_configuration_that_is_none_names_the_file_and_the_way_out(tmp_path, config):
    file = tmp_path / "cell.json"
    file.write_text(f'{{"config": {config}, "overrides": []}}')
    with pytest.raises(UserError, match=r"--cell .*cell.json cannot be read \(.*grid's command"):
        run_cell(file)
