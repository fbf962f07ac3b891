"""Each module has its test file: its mirror, or the one that tests/MAP.md names."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    file.relative_to(ROOT)
    for file in ROOT.glob("glam/**/*.py")
    if file.name != "__init__.py" or file.parent.name == "glam"
)
LINES = re.findall(r"^\| `(.+?)` \| `(.+?)` \|$", (ROOT / "tests" / "MAP.md").read_text(), re.M)


def mirror(module: Path) -> Path:
    return ROOT / "tests" / module.parent.relative_to("glam") / f"test_{module.name.lstrip('_')}"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_has_its_test_file_or_a_line_that_names_one(module):
    named = [test for pattern, test in LINES if fnmatch(str(module), pattern)]
    assert mirror(module).exists() or named, f"{mirror(module)} is not there, nor a line in MAP.md"


@pytest.mark.parametrize(("pattern", "test"), LINES)
def test_a_line_of_the_map_names_what_is_there(pattern, test):
    assert any(fnmatch(str(module), pattern) for module in MODULES), f"no module is {pattern}"
    assert "\ndef test_" in (ROOT / test).read_text()
