"""`python -m experiments.deduplication.planted`: which planted copies are found, by their true
similarity; writes `planted.csv` and `summary.csv`, and draws `planted.png`."""

import csv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from experiments.corpora.generate import Corpus
from experiments.deduplication.copies_of import copies_of
from glam.config import DedupConfig
from glam.data.scan import scan
from glam.reporting.theme import PRINT, panel

HERE = Path(__file__).parent
PAGES, EXACT, NEAR = 100_000, 0.1, 0.25
THRESHOLD, WIDTH = DedupConfig().threshold, 0.025
Found = Mapping[str, NDArray[np.bool_]]  # by recipe: which pages are told to be copies


def main() -> None:
    corpus = Corpus(240, exact=EXACT, near=NEAR)
    pages = [corpus.page(index) for index in track(range(PAGES), "pages")]
    texts = [page.text for page in pages]
    kinds = np.array([page.kind for page in pages])
    jaccard = np.array([-1.0 if page.jaccard is None else page.jaccard for page in pages])
    found = {
        "along and across, compared": copies_of({"web": ("pool", texts)}, DedupConfig())["web"] > 0,
        "14 bands of 8 alone": _in_a_band(scan(texts, DedupConfig(), None).bands),
    }
    curve = list(_curve(jaccard, found))
    _write(HERE / "planted.csv", curve)
    _write(HERE / "summary.csv", _summary(kinds, jaccard, found))
    _draw(curve, list(found))


def _in_a_band(bands: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Pages that agree with an earlier one in a band: the usual recipe but for what links add."""
    copies = np.zeros(len(bands), bool)
    for column in bands.T:
        _, first = np.unique(column, return_index=True)
        again = np.ones(len(bands), bool)
        again[first] = False
        copies |= again
    return copies


def _curve(jaccard: NDArray[np.float64], found: Found) -> Iterator[dict[str, object]]:
    for low in np.arange(0.5, 1, WIDTH):
        inside = (jaccard >= low) & (jaccard < low + WIDTH + (1e-9 if low + WIDTH > 0.999 else 0))
        shares = {recipe: float(copies[inside].mean()) for recipe, copies in found.items()}
        yield {"jaccard": round(float(low + WIDTH / 2), 4), "pages": int(inside.sum()), **shares}


def _summary(
    kinds: NDArray[np.str_], jaccard: NDArray[np.float64], found: Found
) -> list[dict[str, object]]:
    groups = {
        "exact copies": kinds == "exact",
        "near copies of 0.8 and above": jaccard >= 0.8,
        "near copies from 0.8 to 0.825": (jaccard >= 0.8) & (jaccard < 0.825),
        "near copies below 0.6": (kinds == "near") & (jaccard < 0.6),
        "originals": kinds == "original",
    }
    rows: list[dict[str, object]] = []
    for recipe, copies in found.items():
        row: dict[str, object] = {"recipe": recipe}
        for name, members in groups.items():
            row |= {name: int(members.sum()), f"{name}: told": int(copies[members].sum())}
        near = (jaccard >= 0.5) & (kinds == "near")
        row |= _f1(jaccard[near] >= THRESHOLD, copies[near])
        rows.append(row)
    return rows


def _f1(true: NDArray[np.bool_], told: NDArray[np.bool_]) -> dict[str, object]:
    """Of near copies alone, those of the threshold and above being copies: F1 of copies, and the
    mean of it and the F1 of what is none (macro)."""
    scores: list[float] = []
    for real, said in ((true, told), (~true, ~told)):
        both = float((real & said).sum())
        scores.append(2 * both / float(real.sum() + said.sum()))
    return {"F1": scores[0], "macro F1": sum(scores) / 2}


def _draw(curve: list[dict[str, object]], recipes: list[str]) -> None:
    figure, axes = panel(PRINT, width=6, height=3.4)
    at = [float(str(row["jaccard"])) for row in curve]
    for index, recipe in enumerate(recipes):
        shares = [float(str(row[recipe])) for row in curve]
        axes.plot(at, shares, "o-", markersize=3, color=PRINT.colour(index), label=recipe)
    along = np.linspace(0.5, 1, 200)
    theory: Callable[[int], NDArray[np.float64]] = lambda bands: 1 - (1 - along**8) ** bands  # noqa: E731
    axes.plot(along, theory(14), ":", color=PRINT.colour(1), label="in theory: 14 bands")
    axes.axvline(THRESHOLD, color=PRINT.muted, linewidth=0.8)
    axes.set_xlabel("Jaccard similarity of the copy's 5-grams with its page's, by the sets")
    axes.set_ylabel("share told to be copies")
    axes.legend(fontsize=8, frameon=False)
    figure.savefig(HERE / "planted.png", dpi=150)
    figure.savefig(HERE / "planted.svg", metadata={"Date": None})


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})


if __name__ == "__main__":
    main()
