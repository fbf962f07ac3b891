"""`glam.load`: a trained run in Python, ready to write text and to judge it."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from glam.config import GenerateTaskConfig, HardwareConfig, RunConfig, typed_path
from glam.errors import UserError
from glam.machine.resources import resolve
from glam.runs.finding import find_run
from glam.runs.folder import RunFolder
from glam.tasks.export import export_to, new_folder
from glam.tasks.generate import search_of
from glam.tasks.trained import load_tokenizer, model_on

if TYPE_CHECKING:
    from glam.data import PreparedData, Tokenizer
    from glam.model import Glam

TEXT = "text"  # the one domain of a text that is judged


class TextLoss(NamedTuple):
    """Cross-entropy of a text, with the end of its document counted as a token."""

    nats_per_token: float
    bits_per_byte: float
    tokens: int
    bytes: int  # of UTF-8


@dataclass(frozen=True, repr=False)
class LoadedRun:
    """A trained run: `model` in evaluation mode, `tokenizer`, and the `config` it was trained
    with, from the folder `path`."""

    path: Path
    config: RunConfig
    model: "Glam"
    tokenizer: "Tokenizer"

    def __repr__(self) -> str:
        """Short, since a notebook shows it."""
        return f"LoadedRun({str(self.path)!r})"

    def generate(
        self,
        prompt: str,
        *,
        max_tokens: int = 100,
        temperature: float = 0.8,
        top_p: float = 0.95,
        seed: int = 0,
        beams: int = 1,
        length_penalty: float = 1.0,
        length_penalty_form: str = "power",
    ) -> str:
        """The text that follows `prompt`, at most `max_tokens` tokens. Temperature 0 takes the
        likeliest token each time; else tokens are drawn, by `seed`, from the likeliest ones that
        have probability `top_p` together. With `beams` above 1 it is the best text of a beam
        search, which draws nothing. Raises UserError for values out of range."""
        from glam.evaluation import generate

        task = GenerateTaskConfig(
            prompt=prompt,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            beams=beams,
            length_penalty=length_penalty,
            length_penalty_form=length_penalty_form,
        )
        [text] = generate(
            self.model,
            self.tokenizer,
            [prompt],
            search_of(task, seed),
            max_tokens=max_tokens,
            context=self.config.training.sequence_length,
        )
        return text

    def loss(self, text: str) -> TextLoss:
        """Loss on one document, measured as held-out loss is: in rows of the sequence length that
        the model was trained on. Raises UserError for a text without a character."""
        from glam.evaluation import evaluate_domains

        prepared = _as_held_out(text, self.tokenizer)
        training = self.config.training
        rows = math.ceil(len(prepared.held_out[TEXT].tokens) / training.sequence_length)
        found = evaluate_domains(
            self.model,
            prepared,
            sequence_length=training.sequence_length,
            batch_size=min(rows, training.batch_size),
            max_tokens=rows * training.sequence_length,
        )[TEXT]
        return TextLoss(found.loss, found.bits_per_byte, found.tokens, found.bytes)

    def export(self, path: str | Path) -> None:
        """Write the new folder `path`, relative to the current directory, which Hugging Face's
        libraries load. Raises UserError where it is there already or cannot be written."""
        folder = new_folder(Path(path).absolute())
        export_to(folder, RunFolder(self.path), self.config, self.model, self.tokenizer)


def load(run: str | Path = "latest", *, runs_dir: str | Path, device: str = "auto") -> LoadedRun:
    """See `glam.load`."""
    folder = find_run(str(run), typed_path("runs_dir", str(runs_dir)))
    config = folder.run_config()
    resources = resolve(replace(config, hardware=HardwareConfig(device=device)))
    return LoadedRun(
        folder.path, config, model_on(folder, resources), load_tokenizer(folder, config)
    )


def _as_held_out(text: str, tokenizer: "Tokenizer") -> "PreparedData":
    """The text, cleaned as every document is, as the one held-out document there is."""
    from glam.data import PreparedData
    from glam.data.text import clean
    from glam.data.tokens import Encoded

    text = clean(text)
    if not text:
        raise UserError("loss: the text is empty; give at least one character")
    tokens = np.array([tokenizer.bos, *tokenizer.encode(text)], tokenizer.dtype)
    encoded = Encoded(
        tokens=tokens,
        offsets=np.array([0, len(tokens)]),
        hashes=np.zeros(1, np.uint64),
        characters=np.array([len(text)]),
    )
    return PreparedData("", tokenizer, [TEXT], [], {TEXT: encoded}, [], {})
