"""What follows from the rows: the figure, the speeds that `task=plan` counts with, and hours and
dollars of more text, written into docs/scale.md and README.md here."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.preparation.table import HERE, MACHINE, Table
from experiments.preparation.vocabulary import NATURAL
from glam.reporting.theme import PRINT, panel

MOST_MB = 600  # of any process, whatever the size of the text
# A core of m7g.large (two cores, no hyperthreads), on demand, us-east-1, June 2026: 0.0816 dollars
# an hour, as https://www.factualminds.com/blog/amazon-ec2-on-demand-pricing-instance-families-2026/
# quotes AWS. A vCPU of x86 is half a core and costs about as much.
DOLLARS_PER_CORE_HOUR = 0.0408
CORES = 64  # of the machine that hours are told of
# Stages that work on a sample of the text, or on none.
FIXED = (
    "start",
    "reading the text",  # the program and its libraries
    "quality classifier",
    "tokenizer",
    "making tasks of held-out text",
    "n-grams of evaluation sets",
)
SERIAL = "find copies"  # the one step over all shards that grows with the text
# The paper's table 3, and section 3: 143 B tokens of web pages are kept of about 7 T.
PAPER_TOKENS, WEB_TOKENS, KEPT_TOKENS = 1.6e12, 7e12, 143e9
ROOT = HERE.parents[1]


class Fit(NamedTuple):
    """CPU seconds: `fixed_s`, and one for each `bytes_per_s` of text."""

    fixed_s: float
    bytes_per_s: float


def fit(recipe: str, only: str | None = None) -> Fit:
    """Of a recipe, or of one of its stages alone, at the largest size that was measured: what
    stages with a sample of the text take is fixed, and what all others take grows with it."""
    largest = max(
        (row for row in Table("sizes").rows if row["recipe"] == recipe),
        key=lambda row: float(row["text_mb"]),
    )
    fixed = growing = 0.0
    for row in Table("stages").rows:
        if (row["recipe"], row["megabytes"]) != (recipe, largest["megabytes"]):
            continue
        if row["stage"] in FIXED:
            fixed += float(row["cpu_s"])
        elif only in (None, row["stage"]):
            growing += float(row["cpu_s"])
    return Fit(fixed, 1e6 * float(largest["text_mb"]) / growing)


def on_disk() -> float:
    """Bytes that were written at most for each byte of text."""
    return max(float(row["disk_mb"]) / float(row["text_mb"]) for row in Table("sizes").rows)


def bytes_a_token() -> float | None:
    """Of the largest vocabulary that is learnt from real words alone; None before it is
    measured."""
    for row in Table("vocabulary").rows:
        if row["pieces"] == str(NATURAL):
            return float(row["bytes_a_token"])
    return None


def main(_: Path) -> None:
    """Draw the figure, and write what is projected into the pages that show it."""
    _draw()
    for recipe in ("filtered", "unfiltered"):  # for glam/planning/preparation.py
        print(f"{recipe}: {fit(recipe)}, {on_disk():.2f} times the text on disk at most")
    rows = list(projected())
    table = Table("projection")
    table.leave_out()
    for row in rows:
        table.add(row)
    lines = [said(row) for row in rows]
    _insert(HERE / "README.md", "projection", lines)
    _insert(ROOT / "docs" / "scale.md", "projection", lines)
    _insert(HERE / "README.md", "sizes", [_size(row) for row in Table("sizes").rows])
    for name in ("line", "files", "vocabulary", "formats"):
        _insert(HERE / "README.md", name, _as_read(Table(name).rows))


def projected() -> Iterator[dict[str, object]]:
    """Core-hours, dollars, hours and disk of more text than was prepared."""
    filtered, unfiltered = fit("filtered"), fit("unfiltered")
    serial = fit("filtered", SERIAL).bytes_per_s
    for name, pool, others in _texts(bytes_a_token()):
        text = pool + others
        seconds = pool / filtered.bytes_per_s + others / unfiltered.bytes_per_s
        alone = text / serial
        yield {
            "what": name,
            "text_tb": text / 1e12,
            "core_hours": seconds / 3600,
            "dollars": seconds / 3600 * DOLLARS_PER_CORE_HOUR,
            "cores": CORES,
            "hours": (alone + (seconds - alone) / CORES) / 3600,
            "of_it_in_one_process": alone / 3600,
            "disk_tb": on_disk() * text / 1e12,
        }


def _texts(rate: float | None) -> Iterator[tuple[str, float, float]]:
    """Names, bytes that are filtered, and bytes that are kept whole."""
    yield "1 TB, filtered", 1e12, 0.0
    yield "1 TB, all of it kept", 0.0, 1e12
    if rate is None:
        return
    yield "the paper's 1.6 T tokens, all of it kept", 0.0, PAPER_TOKENS * rate
    rest = (PAPER_TOKENS - KEPT_TOKENS) * rate
    yield "the same, its web pages filtered from 7 T tokens", WEB_TOKENS * rate, rest


def said(row: Mapping[str, object]) -> dict[str, str]:
    """As the pages show it."""

    def number(key: str) -> str:
        return f"{float(str(row[key])):,.3g}"

    return {
        "what": str(row["what"]),
        "text, TB": number("text_tb"),
        "core-hours": f"{float(str(row['core_hours'])):,.0f}",
        "dollars": number("dollars"),
        f"hours on {CORES} cores": number("hours"),
        "of them in one process": number("of_it_in_one_process"),
        "disk, TB": number("disk_tb"),
    }


def _size(row: Mapping[str, str]) -> dict[str, str]:
    return {
        "text, MB": f"{float(row['text_mb']):,.0f}",
        "recipe": row["recipe"],
        "largest process, MB": f"{float(row['largest_mb']):,.0f}",
        "in": row["largest_in"],
        "all together, MB": f"{float(row['together_mb']):,.0f}",
        "CPU seconds": f"{float(row['cpu_s']):,.0f}",
        "seconds": f"{float(row['wall_s']):,.0f}",
        "disk, times the text": f"{float(row['disk_mb']) / float(row['text_mb']):.2f}",
    }


def _as_read(rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    return [{name: text for name, text in row.items() if name != MACHINE} for row in rows]


def _insert(page: Path, name: str, rows: Sequence[Mapping[str, str]]) -> None:
    """Rows as a table between the marks of that name on a page."""
    if not rows:
        return
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    begin, end = f"<!-- {name}: written by experiments.preparation -->\n", f"\n<!-- {name} ends -->"
    before, rest = page.read_text().split(begin)
    page.write_text(before + begin + "\n" + table + "\n" + end + rest.split(end, 1)[1])


def _draw() -> None:
    figure, axes = panel(PRINT, width=6, height=3.2)
    rows = Table("sizes").rows
    for index, (recipe, mark) in enumerate((("filtered", "o-"), ("unfiltered", "s--"))):
        mine = sorted(
            (float(row["text_mb"]), float(row["largest_mb"]), float(row["together_mb"]))
            for row in rows
            if row["recipe"] == recipe
        )
        sizes, largest, together = zip(*mine, strict=True)
        axes.plot(sizes, largest, mark, color=PRINT.colour(index), label=f"{recipe}, a process")
        axes.plot(
            sizes, together, mark, color=PRINT.colour(index), alpha=0.4, label=f"{recipe}, all"
        )
    axes.axhline(MOST_MB, color=PRINT.ink, linewidth=0.8)
    axes.text(0.98, MOST_MB, "a process may take so much", transform=axes.get_yaxis_transform(),
              fontsize=7, ha="right", va="bottom", color=PRINT.ink)  # fmt: skip
    axes.set_xscale("log")
    axes.set_ylim(0)
    axes.set_xlabel("text, MB")
    axes.set_ylabel("memory at the peak, MB")
    axes.legend(fontsize=7, frameon=False)
    figure.savefig(HERE / "sizes.png", dpi=150)
    figure.savefig(HERE / "sizes.svg", metadata={"Date": None})
