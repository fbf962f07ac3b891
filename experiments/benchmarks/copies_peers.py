"""`python copies_peers.py NAME FILE`: a peer finds copies among the texts of a .jsonl file, and
writes what is none; prints JSON of its CPU seconds by stage. Run by an environment of the peers'
own: datatrove's MinHash does not work with the xxhash of ours."""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

BANDS, ROWS, NGRAM = 14, 8, 5


class Timer:
    """CPU seconds of stages that follow each other."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.process_time()

    def end(self, stage: str) -> None:
        now = time.process_time()
        self.seconds[stage], self._last = now - self._last, now


def rensa(file: Path) -> dict[str, object]:
    from rensa import RMinHash, RMinHashLSH

    timer = Timer()
    texts = [json.loads(line)["text"] for line in file.open()]
    timer.end("read")
    tokens = []
    for text in texts:
        words = text.lower().split()
        ends = range(max(1, len(words) - NGRAM + 1))
        tokens.append({" ".join(words[at : at + NGRAM]) for at in ends})
    matrix = RMinHash.digest_matrix_from_token_sets(tokens, BANDS * ROWS, 1)
    timer.end("signature")
    index = RMinHashLSH(0.7, BANDS * ROWS, BANDS)
    told = index.query_duplicate_flags_matrix_one_shot(matrix)
    timer.end("copies")
    with tempfile.TemporaryFile("w") as out:
        for text, copy in zip(texts, told, strict=True):
            if not copy:
                out.write(json.dumps({"text": text}) + "\n")
    timer.end("write")
    return {"seconds": timer.seconds, "told": sum(told), "version": version("rensa")}


def datatrove(file: Path) -> dict[str, object]:
    from datatrove.executor.local import LocalPipelineExecutor
    from datatrove.pipeline.dedup.minhash import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils.hashing import HashConfig
    from datatrove.utils.word_tokenizers import WordTokenizer
    from loguru import logger

    class Words(WordTokenizer):
        """White space: spaCy, its own for English, takes ten times as long."""

        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

        def sent_tokenize(self, text: str) -> list[str]:
            return [text]

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            return [(0, len(text))]

    logger.remove()
    config = MinhashConfig(
        n_grams=NGRAM,
        num_buckets=BANDS,
        hashes_per_bucket=ROWS,
        hash_config=HashConfig(precision=64),
    )
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)

        def run(stage: str, *steps: object, tasks: int = 1) -> None:
            logs = str(work / "logs" / stage)
            LocalPipelineExecutor(list(steps), tasks=tasks, workers=1, logging_dir=logs).run()

        reader = JsonlReader(str(file.parent), glob_pattern=file.name)
        timer = Timer()
        run("s", reader, MinhashDedupSignature(f"{work}/s", config=config, language=Words()))
        timer.end("signature")
        run("b", MinhashDedupBuckets(f"{work}/s", f"{work}/b", config=config,
                                     lines_to_buffer=1000), tasks=BANDS)  # fmt: skip
        run("c", MinhashDedupCluster(f"{work}/b", f"{work}/c", config=config, lines_to_buffer=1000))
        timer.end("copies")
        run(
            "f", reader, MinhashDedupFilter(f"{work}/c"), JsonlWriter(f"{work}/f", compression=None)
        )
        timer.end("write")
        told = sum(path.stat().st_size // 4 for path in (work / "c").rglob("*.remove"))
    return {"seconds": timer.seconds, "told": told, "version": version("datatrove")}


if __name__ == "__main__":
    peers: dict[str, Callable[[Path], dict[str, object]]] = {"rensa": rensa, "datatrove": datatrove}
    print(json.dumps(peers[sys.argv[1]](Path(sys.argv[2]))))
