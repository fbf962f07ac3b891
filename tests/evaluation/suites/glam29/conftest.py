"""All data sets, made of a few sentences each, as a folder; and a benchmark's task on it."""

import functools
import json
from pathlib import Path

import pytest
import yaml

from glam.config import EvaluationConfig, ModelConfig
from glam.evaluation.harness import quiet
from glam.evaluation.language_model import GlamLM, LogLikelihood
from glam.evaluation.suites.glam29.catalogue import BENCHMARKS
from glam.evaluation.suites.glam29.suite import load_benchmark
from glam.model import Glam

DOCUMENTS = Path(__file__).with_name("documents.yaml")


def write_documents(folder: Path) -> None:
    for split, rows in yaml.safe_load(DOCUMENTS.read_text()).items():
        file = folder / f"{split}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))


class Judged:
    """A task on the documents above, with what lm-eval asks of it."""

    def __init__(self, name, folder, shots):
        with quiet():
            self.task, self.chance = load_benchmark(
                BENCHMARKS[name], EvaluationConfig(data_dir=str(folder))
            )
        self.shots = shots
        self.task.set_config("num_fewshot", shots)
        self.task.set_fewshot_seed(1234)
        with quiet():
            self.task.build_all_requests()
        self.documents = list(self.task.eval_docs)

    def requests(self, item):
        return [one.args for one in self.task.instances if one.doc_id == item]

    def prompts(self, item):
        return [args[0] for args in self.requests(item)]

    def score(self, item, *found):
        """Of texts that were written, or of log-likelihoods `(nats, tokens)`."""
        results = [
            one if isinstance(one, str) else LogLikelihood(one[0], False, one[1]) for one in found
        ]
        return self.task.process_results(self.documents[item], results)


class ByteTokenizer:
    """A token for each byte."""

    vocab_size, bos, eos = 258, 256, 257

    def encode(self, text):
        return list(text.encode())

    def decode(self, tokens):
        return bytes(token for token in tokens if token < 256).decode(errors="replace")


@pytest.fixture(scope="session")
def lm():
    """An untrained model of a few thousand parameters, with 300 bytes of context."""
    sizes = {"num_layers": 2, "d_model": 16, "d_ff": 16, "num_heads": 2, "num_experts": 2}
    model = Glam(ModelConfig(vocab_size=258, **sizes))
    model.initialize(0)
    return GlamLM(model, ByteTokenizer(), max_length=300)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_documents(folder)
    return folder


@pytest.fixture(scope="session")
def judged(data_dir):
    """`judged(name, shots)`: the task of a benchmark with that many demonstrations."""
    return functools.cache(lambda name, shots=0: Judged(name, data_dir, shots))
