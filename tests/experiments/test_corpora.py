"""Made corpora: what is said of a page is true of it."""

import json

import pytest

from experiments.corpora.__main__ import main
from experiments.corpora.copies import jaccard

pytestmark = pytest.mark.slow  # reads every embedded corpus


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora")
    main(folder, 0.6, 2)
    return folder


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_copies_are_what_the_truth_says(made):
    pages = [row["text"] for shard in sorted((made / "web").iterdir()) for row in rows(shard)]
    items = {row["id"]: row for row in rows(made / "items.jsonl")}
    kinds = set()
    for known, text in zip(rows(made / "truth.jsonl"), pages, strict=True):
        kinds.add(known["kind"])
        origin = pages[known["origin"]]
        if known["kind"] == "near":
            assert jaccard(origin, text) == pytest.approx(known["jaccard"], abs=1e-4)
        else:
            assert text == origin
            assert all(items[item]["text"] in text for item in known.get("items", ()))
            assert all(items[item]["planted"] for item in known.get("items", ()))
    assert kinds == {"original", "exact", "near"}


def test_two_shards_hold_about_the_megabytes(made):
    sizes = [path.stat().st_size for path in sorted((made / "web").iterdir())]
    assert len(sizes) == 2
    assert all(0.3e6 <= size < 0.4e6 for size in sizes)
