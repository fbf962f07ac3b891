"""Sphinx builds the documentation by this file: `make docs`."""

import ast
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import glam  # noqa: E402 - found by the line above
from glam.composition.keys import Key, all_keys, sections  # noqa: E402

project = "glam"
author = "the authors of glam"
version = release = glam.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx_copybutton", "sphinx_design"]
exclude_patterns = ["_build"]

html_theme = "sphinx_book_theme"
html_title = f"glam {version}"
html_static_path = ["_static"]
html_css_files = ["glam.css"]
html_show_copyright = False
html_theme_options = {
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "use_download_button": False,
    "use_fullscreen_button": False,
}

myst_enable_extensions = ["attrs_block", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# The notebook is committed with its output; the suite executes it.
nb_execution_mode = "off"
nb_merge_streams = True

copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True

autodoc_typehints_format = "short"  # Tensor, not torch.Tensor
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True


def to_restructured_text(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Docstrings are plain text with `code` in them; Sphinx reads reStructuredText."""
    paragraphs = re.split(r"\n\s*\n", "\n".join(lines))
    lines[:] = "\n\n".join(map(_paragraph, paragraphs)).split("\n")


def _paragraph(text: str) -> str:
    rows = text.split("\n")
    if any(rows) and all(row.startswith("    ") for row in rows if row):
        return "::\n\n" + text  # a table or a piece of code
    if _is_python(text):
        return "::\n\n" + "\n".join(f"    {row}" for row in rows)
    return "\n".join(_escaped(row.strip()) for row in rows)


def _is_python(text: str) -> bool:
    try:
        return bool(ast.parse(text).body) and "(" in text
    except SyntaxError:
        return False


def _escaped(text: str) -> str:
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(
        f"`{part}`" if part.startswith("`") else re.sub(r"([\\*|_])", r"\\\1", part)
        for part in parts
    )


def shorten(
    app: Any, what: str, name: str, obj: Any, options: Any, *signature: str | None
) -> tuple[str | None, ...]:
    """Arrays and functions by the name that the source has for them."""
    return tuple(part and _shortened(part) for part in signature)


def _shortened(signature: str) -> str:
    signature = re.sub(r"<(?:built-in )?(?:function|method) (\w+)[^>]*>", r"\1", signature)
    signature = signature.replace("<factory>", "...")
    module = r"~?(?:\w+\.)*"  # as in ~numpy.ndarray
    array = r"@ndarray\[@?tuple\[@Any, \.\.\.\], @dtype\[@(\w+)\]\]".replace("@", module)
    return re.sub(array, r"NDArray[\1]", signature)


def list_keys(app: Any, page: str, source: list[str]) -> None:
    """A table of keys for each section of the configuration."""
    if page == "configuration":
        source[0] = source[0].replace("<!-- keys -->", "\n".join(map(_section, sections())))


def _section(section: str) -> str:
    """The keys of a section; where several classes may stand in it, a table for each."""
    keys = [key for key in all_keys() if key.section == section]
    kinds = list(dict.fromkeys(key.kind for key in keys))
    lines = [f"## `{section}`\n" if section else "## Top level\n"]
    for kind in kinds:
        rows = [key for key in keys if key.kind is kind]
        if len(kinds) > 1:
            rows = [key for key in rows if key.field != "name"]
            group = section.replace(".", "/")
            lines += [f"### `{group}={kind().name}`\n"] if rows else []
        lines += _table(rows) if rows else []
    return "\n".join(lines)


def _table(keys: list[Key]) -> list[str]:
    rows = [
        f"| `{key.field}` | `{_written(key.default)}` | {key.type_name} | {key.unit} | "
        f"{re.sub(r' *[|] *', ', ', key.meaning)} |"
        for key in keys
    ]
    header = "| key | default | type | unit | meaning |"
    return ["{.stacked}", header, "| --- " * 5 + "|", *rows, ""]


def _written(default: Any) -> str:
    """As YAML has it."""
    if isinstance(default, bool):
        return str(default).lower()
    return "null" if default is None else str(default) or '""'


def setup(app: Any) -> None:
    app.connect("source-read", list_keys)
    app.connect("autodoc-process-signature", shorten)
    app.connect("autodoc-process-docstring", to_restructured_text)
