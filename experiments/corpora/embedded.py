"""`python -m experiments.corpora.embedded`: how much embedded text there is, by source, and how
often a run of the default recipe reads it. Writes `embedded_sources.csv`, `embedded_epochs.csv`
and the tables of `docs/concepts.md`."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from glam.config import DataConfig, FilterConfig, ModelConfig
from glam.data import EMBEDDED, PreparedData, prepare

HERE = Path(__file__).parent
PAGE, CACHE = HERE.parents[1] / "docs" / "concepts.md", HERE.parents[1] / "cache"
RUNS = (5e6, 10e6, 20e6)  # tokens
ROLES = {
    "curated": "the classifier's good examples",
    "held_out": "evaluated on alone",
    "pool": "filtered",
    "unfiltered": "trained on as it is",
}


def main() -> None:
    everything, filtered = (
        prepare(DataConfig(filter=FilterConfig(name=name)), ModelConfig().vocab_size, CACHE)
        for name in ("none", "pareto")
    )
    for name, rows in (("sources", sources(everything)), ("epochs", epochs(filtered))):
        with (HERE / f"embedded_{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        PAGE.write_text(replaced(PAGE.read_text(), name, rows))


def sources(prepared: PreparedData) -> list[dict[str, str]]:
    """What each source is, and how much text it has; tokens of the default vocabulary."""
    found: list[dict[str, str]] = []
    total = 0
    for row in EMBEDDED:
        texts = [str(text) for text in row.reader(row.locate())]
        tokens = _tokens(prepared, row.name)
        total += tokens
        found.append({
            "source": row.name,
            "package": f"`{row.requirement}`",
            "component": row.component,
            "role": ROLES[row.role],
            "documents": f"{len(texts):,}",
            "MB": f"{sum(len(text.encode()) for text in texts) / 1e6:.1f}",
            "M tokens": f"{tokens / 1e6:.2f}",
            "licence as stated": row.license,
        })  # fmt: skip
    empty = dict.fromkeys(found[0], "")
    return [*found, empty | {"source": "all", "M tokens": f"{total / 1e6:.2f}"}]


def _tokens(prepared: PreparedData, name: str) -> int:
    """Of the documents that are trained on and of those that are held out."""
    trained = {row["source"]: row["tokens"] for row in prepared.funnel if row["step"] == "kept"}
    return (trained.get(name) or 0) + len(prepared.held_out[name].tokens)


def epochs(prepared: PreparedData) -> list[dict[str, str]]:
    """The share of each component in the training tokens, and how often it is read."""
    return [
        {
            "component": component.name,
            "share of the tokens": f"{component.weight:.1%}",
            "M tokens of an epoch": f"{component.num_tokens / 1e6:.2f}",
            **{
                f"epochs in {tokens / 1e6:.0f} M tokens": (
                    f"{component.weight * tokens / component.num_tokens:.2f}"
                )
                for tokens in RUNS
            },
        }
        for component in prepared.components
    ]


def replaced(page: str, name: str, rows: Sequence[Mapping[str, str]]) -> str:
    """The page with the rows as its table between the marks of that name."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    begin = f"<!-- {name}: written by experiments.corpora.embedded -->\n"
    end = f"\n<!-- {name} ends -->"
    before, rest = page.split(begin)
    return f"{before}{begin}\n{table}\n{end}{rest.split(end, 1)[1]}"


if __name__ == "__main__":
    main()
