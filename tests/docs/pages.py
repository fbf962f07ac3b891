"""What the pages of the documentation hold: blocks of code, inline commands, rows of tables."""

import re
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
SHELL = ("bash", "console", "")  # on GitHub a block without a language is one of commands
PROGRAMS = ("python run.py", "python -m", "torchrun ", "make ")
# What a command may need that a machine of tests lacks.
ABSENT = ("a finished run", "a finished study", "your text", "conf/", "glam/", "gpu", "slurm")
ABSENT += ("ray", "tpu", "wandb", "network", ".venv-xla")


class Block(NamedTuple):
    page: str
    line: int
    language: str
    text: str

    @property
    def needs(self) -> str | None:
        """What a comment at its beginning says that it needs."""
        match = re.match(r"# needs: (.+)", self.text)
        return match[1] if match else None


class Command(NamedTuple):
    page: str
    line: int
    words: str
    needs: str | None

    @property
    def needs_file(self) -> bool:
        """Whether it is about a file that the page tells the reader to save."""
        return self.needs is not None and self.needs.startswith(("conf/", "glam/"))


def blocks(page: Path, *languages: str) -> list[Block]:
    return [
        Block(page.name, token.map[0] + 2, token.info, token.content)
        for token in MarkdownIt().parse(page.read_text(encoding="utf-8"))
        if token.type == "fence" and token.map and token.info in languages
    ]


def commands(page: Path) -> list[Command]:
    """The commands of a page's shell blocks, and those in its running text."""
    found = [
        Command(block.page, block.line, words, block.needs)
        for block in blocks(page, *SHELL)
        for words in _lines(block)
    ]
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    inline = [
        Command(page.name, token.map[0] + 1 if token.map else 0, part.content, None)
        for token in tokens
        for part in token.children or []
        if part.type == "code_inline" and part.content.startswith(PROGRAMS)
    ]
    return found + [command for command in inline if "…" not in command.words]


def _lines(block: Block) -> list[str]:
    text = block.text.replace("\\\n", " ")
    if block.language == "console":
        text = "\n".join(line[2:] for line in text.splitlines() if line.startswith("$ "))
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line]


def files_to_save(page: Path) -> list[tuple[str, str]]:
    """Path and content of the files that a page tells the reader to save."""
    text = page.read_text(encoding="utf-8")
    return re.findall(r"Save this as\s+`(conf/[^`]+)`:\n\n```yaml\n(.*?)```", text, re.DOTALL)


def tables(page: Path, heading: str) -> list[list[str]]:
    """The rows of all tables below a heading, down to the next of its rank or above."""
    level = heading.split()[0]
    text = page.read_text(encoding="utf-8")
    begin = text.index(f"\n{heading}\n") + len(heading) + 2
    end = re.search(rf"^#{{1,{len(level)}}} ", text[begin:], re.MULTILINE)
    section = text[begin : begin + end.start()] if end else text[begin:]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|") and not line.startswith("| ---")
    ]


def first_cells(page: Path, heading: str) -> list[str]:
    """The names in code of every first cell."""
    return [name for row in tables(page, heading) for name in re.findall(r"`([^`]+)`", row[0])]
