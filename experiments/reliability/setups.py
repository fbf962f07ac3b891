"""The command lines that chaos kills: a tiny model on made-up text, on every kind of engine."""

import importlib.util
import json
import random
import sys
from dataclasses import dataclass, fields
from pathlib import Path

from glam.config import TrainingConfig

ROOT = Path(__file__).parents[2]
SMALL = (
    *("model.d_model=16", "model.d_ff=32", "model.num_heads=2", "model.num_experts=8"),
    *("model.vocab_size=300", "model.router.second_policy=random", "training.tokens=24000"),
    *("training.batch_size=8", "training.sequence_length=32", "training.log_every=5"),
    *("training.checkpoint_minutes=0.005", "evaluation.points=3", "logger=csv"),
    *(
        "evaluation=held_out",
        "evaluation.tokens_per_domain=2000",
        "evaluation.tokens_per_point=500",
    ),
    *("data/corpus=local", "data.filter.alpha=2", "data.page_characters=300"),
)
CPU = ("hardware=cpu", "hardware.precision=float32")
GRID = ("-m", "seed=0,1", *CPU, "hardware.threads=1")


@dataclass(frozen=True, kw_only=True)
class SetUp:
    """One way to train the same tiny model."""

    name: str
    words: tuple[str, ...]
    python: str = sys.executable
    is_grid: bool = False  # several runs in processes of their own, which a launcher starts

    def line(self, text: Path, runs: Path, cache: Path) -> list[str]:
        corpus = [f"data.corpus.files=[{text}/web]", f"data.corpus.curated=[{text}/curated]"]
        places = [f"runs_dir={runs}", f"cache_dir={cache}"]
        return [self.python, str(ROOT / "run.py"), *self.words, *SMALL, *corpus, *places]


def set_ups(xla: Path) -> list[SetUp]:
    """Those that can run here: Ray, submitit and XLA where they are installed."""
    found = [
        SetUp(name="1 thread", words=(*CPU, "hardware.threads=1")),
        SetUp(name="2 threads", words=(*CPU, "hardware.threads=2")),
        SetUp(name="2 ranks", words=("hardware=cpu_node",)),
        SetUp(name="4 ranks", words=("hardware=cpu_node", "hardware.mesh.expert=4")),
        SetUp(name="grid", words=GRID, is_grid=True),
    ]
    if importlib.util.find_spec("submitit"):
        words = (*GRID, "hydra/launcher=submitit_local")
        found.append(SetUp(name="grid on submitit", words=words, is_grid=True))
    if importlib.util.find_spec("ray"):
        found.append(SetUp(name="grid on Ray", words=(*GRID, "hydra/launcher=ray"), is_grid=True))
    if xla.is_file():
        words = ("hardware=xla_cpu", "model.num_heads=8", "training.tokens=8000")
        found.append(SetUp(name="8 XLA devices", words=words, python=str(xla)))
    if "spike_window" in {field.name for field in fields(TrainingConfig)}:
        # So low a threshold takes noise for spikes: the run goes back again and again.
        spikes = ("training.spike_window=8", "training.spike_threshold=1.5")
        words = (*CPU, "hardware.threads=1", *spikes, "training.max_rollbacks=100")
        found.append(SetUp(name="rollbacks", words=words))
    return found


def write_text(folder: Path) -> None:
    """Curated and web-like text, so that every stage of the preparation has work."""
    for kind, words in {
        "curated": "law virtue treaty province",
        "web": "lol omg pics click",
    }.items():
        (folder / kind).mkdir(parents=True)
        with (folder / kind / f"{kind}.jsonl").open("w", encoding="utf-8") as file:
            for number in range(150):
                chance = random.Random(f"{kind} {number}")
                every = [*words.split(), "buy", "then", "and", "the", str(number)]
                text = " ".join(chance.choice(every) for _ in range(150))
                file.write(json.dumps({"text": text}) + "\n")
