"""Writing text: against the loop that stood here before, which read the last 128 tokens anew for
every token; against Hugging Face's `generate` on the exported folder; and against reading the
weights that a token uses, which no decoder can spare."""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Generator, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch

from experiments.benchmarks.layer import TYPES
from experiments.benchmarks.timing import Work, interleaved
from glam.config import ModelConfig
from glam.evaluation import Sampling, continue_tokens
from glam.evaluation.held_out import evaluating
from glam.export import folder as folder_of_exports
from glam.export.folder import exported_names
from glam.model import Glam
from glam.model.decoding.kernel_decoder import KernelDecoder
from glam.model.saved_tensors import save_tensors
from glam.runs.exported import CONFIG, WEIGHTS, shape_of

NO_END = -1  # no token ends a text, so that all are equally long
CONTEXT = 128
BEFORE = "before: 128 tokens anew"
LARGE = ModelConfig(
    vocab_size=32_000,
    num_layers=8,
    d_model=1024,
    d_ff=4096,
    num_heads=16,
    num_experts=8,
    moe_every=2,
)  # 0.15 B active parameters, without the embedding


def measure() -> Iterator[dict[str, object]]:
    yield from _before()
    yield from _peer()
    yield from _large()


def _before() -> Iterator[dict[str, object]]:
    """Tokens of a text of 512, by the model at the default size."""
    for name, dtype in TYPES.items():
        model = _model(ModelConfig(), dtype)
        works: dict[str, Work] = {
            BEFORE: lambda model=model: sliding_window(model, 512, 24),
            "glam, greedy": lambda model=model: _written(model, 512),
            "glam, drawn": lambda model=model: _written(model, 512, search=Sampling(0.8, 0.95)),
        }
        tokens = {BEFORE: 24}
        about = {"model": "default, 512 tokens", "dtype": name, "batch": 1}
        yield from _rates(works, BEFORE, tokens, 512, **about)


def sliding_window(model: Glam, length: int, steps: int) -> None:
    """The last tokens of a text of `length`, as they were written before 0.3."""
    text = torch.randint(0, 2048, (1, length - steps))
    with evaluating(model):
        for _ in range(steps):
            logits = model(text[:, -CONTEXT:]).logits[0, -1]
            assert logits.isfinite().all()
            text = torch.cat([text, logits.argmax()[None, None]], 1)


def _rates(
    works: dict[str, Work], reference: str, tokens: dict[str, int], usual: int, **about: object
) -> Iterator[dict[str, object]]:
    """Rows with tokens a second; a ratio is of the times of a token."""
    scale = {name: tokens.get(name, usual) for name in works}
    label = " ".join(str(value) for value in about.values())
    for row in interleaved(works, reference, rounds=5, turn=0.1, label=f"generation {label}"):
        each = scale[str(row["candidate"])]
        per_token = scale[reference] / each
        ratios = {key: float(str(row[key])) * per_token for key in ("ratio", "low", "high")}
        yield {**about, **row, **ratios, "tokens_per_s": 1e3 * each / float(str(row["ms"]))}


def _written(model: Glam, tokens: int, batch: int = 1, search: Sampling | None = None) -> None:
    prompts = [[1, 5 + row, 7] for row in range(batch)]
    continue_tokens(
        model,
        prompts,
        max_tokens=tokens,
        end=NO_END,
        search=search or Sampling(),
        batch_size=batch,
    )


def _model(config: ModelConfig, dtype: torch.dtype) -> Glam:
    torch.manual_seed(0)
    model = Glam(config, dtype=dtype)
    for weight in model.parameters():  # routers that prefer, and a text that varies
        if weight.ndim == 2 and weight.shape[1] == config.num_experts:
            weight.data.normal_(0, 1)
    return model.eval()


def _peer() -> Iterator[dict[str, object]]:
    """Batches of texts in float32, beside Hugging Face's `generate` on the exported folder."""
    for name, config, batches, tokens in (
        ("default", ModelConfig(), (1, 4, 16, 64), 128),
        ("0.15 B active", LARGE, (1, 4), 8),
    ):
        model = _model(config, torch.float32)
        with exported(model) as peer:
            for batch in batches:
                works: dict[str, Work] = {
                    "HF generate": partial(_written_by_peer, peer, tokens, batch),
                    "glam": partial(_written, model, tokens, batch),
                }
                about = {"model": name, "dtype": "float32", "batch": batch}
                yield from _rates(works, "HF generate", {}, tokens * batch, **about)


@contextlib.contextmanager
def exported(model: Glam) -> Generator[Any]:
    """The model of Hugging Face's library that the exported folder loads as."""
    from transformers import AutoModelForCausalLM

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        save_tensors(exported_names(model.state_dict()), folder / WEIGHTS, format="pt")
        modeling = Path(folder_of_exports.__file__).with_name("modeling_glam.py")
        shutil.copyfile(modeling, folder / modeling.name)
        classes = {
            "AutoConfig": "modeling_glam.GlamConfig",
            "AutoModelForCausalLM": "modeling_glam.GlamForCausalLM",
        }
        about = {"model_type": "glam_moe", "auto_map": classes, "dtype": "float32"}
        (folder / CONFIG).write_text(json.dumps(shape_of(model.config) | about))
        yield AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()


def _written_by_peer(peer: Any, tokens: int, batch: int) -> None:
    prompts = torch.tensor([[1, 5 + row, 7] for row in range(batch)])
    length = {"max_new_tokens": tokens, "min_new_tokens": tokens}
    mask = torch.ones_like(prompts)
    found = peer.generate(prompts, attention_mask=mask, do_sample=False, pad_token_id=0, **length)
    assert found.shape == (batch, 3 + tokens)


def _large() -> Iterator[dict[str, object]]:
    """A token, against reading once what it uses: its weights, but for the experts it does not
    choose, and the embedding, which gives the logits."""
    for name, dtype in TYPES.items():
        model = _model(LARGE, torch.float32).to(dtype)
        model.dtype = dtype
        decoder = KernelDecoder(model)
        with torch.no_grad():
            decoder.start([[1, 5, 7]], 512)
        works: dict[str, Work] = {
            "reading the weights": partial(_read, model, count()),
            "glam, a token": partial(_next, decoder, count()),
        }
        about = {"model": "0.15 B active, a token", "dtype": name, "batch": 1}
        yield from _rates(works, "reading the weights", {}, 1, **about)


@torch.no_grad()
def _next(decoder: KernelDecoder, numbers: Iterator[int]) -> None:
    decoder.step([next(numbers) % 1000])


def _read(model: Glam, numbers: Iterator[int]) -> None:
    """Sums of the weights of other experts each time; of bfloat16 as integers, which sum faster."""
    first = next(numbers) % (model.config.num_experts - 1)
    for weight in model.parameters():
        for part in weight.data[first : first + 2] if weight.ndim == 3 else [weight.data]:
            wide = part.numel() % 4 == 0
            narrow = part.dtype == torch.bfloat16 and wide
            (part.view(torch.int16).flatten().view(torch.int64) if narrow else part).sum()
