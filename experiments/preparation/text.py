"""Web-like text of any size, quickly: sentences of the embedded corpora, recombined. A tenth of the
pages are equal to a recent one, a twentieth near one. (`experiments.corpora` knows more of each
page, and takes longer.)"""

import json
import random
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from experiments.corpora.generate import CURATED, WEB, pools

FILE_BYTES = 250_000_000
CURATED_SHARE = 0.1  # of the web pages' size
_EQUAL, _NEAR = 0.1, 0.05
_RECENT = 512  # pages that a copy may be of


class Pages:
    """Pages of the given genres, without end."""

    def __init__(self, genres: tuple[str, ...], copies: bool, seed: int = 0) -> None:
        self._pools = {genre: pool for genre, pool in pools()[0].items() if genre in genres}
        self._genres, self._copies, self._draw = genres, copies, random.Random(seed)

    def __iter__(self) -> Iterator[str]:
        draw, recent = self._draw, deque[list[str]](maxlen=_RECENT)
        while True:
            kind = draw.random() if self._copies and recent else 1.0
            if kind >= _EQUAL + _NEAR:
                page = self._page()
                recent.append(page)
            else:
                page = recent[int(draw.random() * len(recent))]
            if _EQUAL <= kind < _EQUAL + _NEAR:
                page = [*page, f"Posted by user{draw.randrange(10**6)}."]
            yield " ".join(page)

    def _page(self) -> list[str]:
        """As long as pages of the web are: log-normally."""
        draw = self._draw
        pool = self._pools[draw.choice(self._genres)]
        sentences = min(400, max(3, int(draw.lognormvariate(2.7, 0.9))))
        return draw.choices(pool, k=sentences)


def web_pages(seed: int = 0) -> Iterator[str]:
    """Web-like pages, some of them copies."""
    return iter(Pages(WEB, copies=True, seed=seed))


def write_text(folder: Path, megabytes: float) -> None:
    """`web/*.jsonl` of so many megabytes in all, and a tenth as much in `curated/books.jsonl`;
    what is there whole stays."""
    if (folder / "done").exists():
        return
    size = megabytes * 1e6
    files = max(2, round(size / FILE_BYTES))
    for number in range(files):
        _fill(folder / "web" / f"web-{number:04d}.jsonl", size / files, web_pages(number))
    curated = iter(Pages(CURATED, copies=False, seed=files))
    _fill(folder / "curated" / "books.jsonl", CURATED_SHARE * size, curated)
    (folder / "done").touch()


def _fill(path: Path, size: float, pages: Iterator[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        while size > 0:
            size -= file.write(json.dumps({"text": next(pages)}, ensure_ascii=False) + "\n")
