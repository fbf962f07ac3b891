"""`python -m experiments.deduplication.embedded`: the copies among the embedded corpora; writes
`embedded.csv`, and prints beginnings of some near copies."""

import csv
from pathlib import Path

import numpy as np

from experiments.deduplication.copies_of import copies_of
from glam.config import DedupConfig
from glam.data.dedup import EXACT, NEAR
from glam.data.sources import EMBEDDED
from glam.data.text import clean

HERE = Path(__file__).parent
SHOWN, CHARACTERS = 12, 100


def main() -> None:
    sources: dict[str, tuple[str, list[str]]] = {}
    for row in EMBEDDED:
        source = row.open()
        texts = [text for raw in source.reader(source.files) if (text := clean(str(raw)))]
        sources[source.name] = (source.role, texts)
    found = copies_of(sources, DedupConfig())
    with (HERE / "embedded.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["source", "documents", "equal copies", "near copies", "characters", "near"]
        )
        for name, (_, texts) in sources.items():
            near = np.flatnonzero(found[name] == NEAR)
            sizes = [len(text) for text in texts]
            writer.writerow([
                name, len(texts), int((found[name] == EXACT).sum()), len(near), sum(sizes),
                sum(sizes[index] for index in near),
            ])  # fmt: skip
            for index in near[:: max(1, len(near) // SHOWN)]:
                print(f"{name} {index}: {texts[index][:CHARACTERS]!r}")


if __name__ == "__main__":
    main()
