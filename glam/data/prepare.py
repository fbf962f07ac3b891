"""From a configuration to tokens: runs the pipeline and tells what it did."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from glam.config import COMPONENTS, DataConfig, MixtureConfig, Source
from glam.data.cache import manifest_digest
from glam.data.documents import text_fingerprint
from glam.data.hashing import digest, uniform
from glam.data.pipeline import Pipeline
from glam.data.prepared import AnyComponent, PreparedData, join
from glam.data.quality import calibrated, keeps
from glam.data.texts import Texts
from glam.data.tokenizer import Tokenizer
from glam.data.tokens import Encoded, read_encoded
from glam.errors import UserError
from glam.runs.folder import why_closed

_SAMPLES = 10  # pages shown of each kind
_SHOWN = 600  # characters of each


@dataclass(frozen=True, eq=False)
class _Text:
    """One source, encoded: what is kept of its training documents, and their scores."""

    index: int
    source: Source
    folder: Path
    training: Encoded
    held_out: Encoded
    scores: NDArray[np.float64] | None  # None: not filtered
    kept: NDArray[np.bool_]


def prepare(
    data: DataConfig, vocab_size: int, cache: Path, tokenizer: Tokenizer | None = None
) -> PreparedData:
    """Prepare the text that `data` describes, or find it in `cache`. The first time shows bars
    and may take a minute; afterwards it takes a fraction of a second. A `tokenizer` that is given,
    as a trained run's, is used; else one is trained. Raises `UserError` for text that is missing,
    unreadable or too little."""
    pipeline = Pipeline(data, vocab_size, cache, tokenizer)
    pipeline.run()
    texts = _read(pipeline)
    components = _components(texts, data.mixture, data.left_out)
    return PreparedData(
        fingerprint=_fingerprint(texts, components, pipeline.tokenizer),
        tokenizer=pipeline.tokenizer,
        sources=[text.source.name for text in texts],
        components=components,
        held_out={text.source.name: text.held_out for text in texts if len(text.held_out)},
        funnel=[row for text in texts for row in _funnel(text)],
        samples=_samples(texts, pipeline.tokenizer, data.seed),
        quality=_quality(texts, pipeline),
        text_fingerprint=text_fingerprint(pipeline.sources),
        texts=Texts(pipeline),
        classifier=pipeline.classifier,
    )


def check_cache(data: DataConfig, vocab_size: int, cache: Path) -> None:
    """Raises UserError where the text is not in `cache` yet, and nothing can be written there."""
    if (reason := why_closed(cache)) is None:
        return
    if not Pipeline(data, vocab_size, cache).is_cached:
        raise UserError(
            f"cache_dir={cache} cannot be written ({reason}), and it does not hold this text "
            f"whole; name another folder with cache_dir=..."
        )


def _read(pipeline: Pipeline) -> list[_Text]:
    scores = _scores(pipeline)
    texts: list[_Text] = []
    for index, source in enumerate(pipeline.sources):
        folder = pipeline.encoded(index)
        training, held_out = (
            read_encoded(folder / side, pipeline.tokenizer) for side in ("training", "held_out")
        )
        mine = scores.get(source.name)
        kept = np.full(len(training), source.name not in pipeline.data.left_out)
        if mine is not None:
            draws = uniform(training.hashes, pipeline.data.seed, "pareto")
            kept &= keeps(mine, draws, pipeline.data.filter)
        texts.append(_Text(index, source, folder, training, held_out, mine, kept))
    return texts


def _scores(pipeline: Pipeline) -> dict[str, NDArray[np.float64]]:
    """Scores of the pool's pages by source; none where nothing is filtered."""
    if not pipeline.filters:
        return {}
    raw = pipeline.quality.scores
    if pipeline.data.filter.calibrate:
        return calibrated(raw)
    return {name: each.astype(np.float64) for name, each in raw.items()}


def _components(
    texts: list[_Text], mixture: MixtureConfig, left_out: list[str]
) -> list[AnyComponent]:
    """The components that the corpus has text for, with the paper's weights shared out anew."""
    texts = [text for text in texts if text.source.name not in left_out]
    present = {
        name: parts
        for name in COMPONENTS
        if getattr(mixture, name)
        and (parts := [t for t in texts if t.source.component == name and len(t.training)])
    }
    if not present:
        names = sorted({text.source.component for text in texts if len(text.training)})
        if not names:  # what is not left out has no text
            raise UserError(f"data.left_out={left_out} leaves nothing to train on; shorten it")
        raise UserError(
            f"data.mixture.{names[0]}=0 leaves nothing to train on, for the corpus has only "
            f"{' and '.join(names)}; give it a weight"
        )
    for name, parts in present.items():
        if not any(text.kept.any() for text in parts):
            raise UserError(
                f"data.filter keeps none of the {sum(len(text.kept) for text in parts):,} pages of "
                f"{name}; give more text, data.filter.calibrate=true, a lower "
                f"data.filter.threshold where that is the filter, or data=unfiltered"
            )
    total = sum(getattr(mixture, name) for name in present)
    return [
        join(
            name,
            getattr(mixture, name) / total,
            [(text.index, text.training, text.kept) for text in parts],
        )
        for name, parts in present.items()
    ]


def _fingerprint(texts: list[_Text], components: list[AnyComponent], tokenizer: Tokenizer) -> str:
    """Of all the tokens that are served, by content."""
    return digest(
        [
            tokenizer.fingerprint,
            [[component.name, component.weight] for component in components],
            [
                [
                    text.source.name,
                    text.source.component,
                    manifest_digest(text.folder),
                    xxhash.xxh3_64_hexdigest(np.packbits(text.kept).tobytes()),
                ]
                for text in texts
            ],
        ]
    )


def _funnel(text: _Text) -> list[dict[str, Any]]:
    source, training, kept = text.source, text.training, text.kept
    counts: dict[str, list[int]] = json.loads((text.folder / "counts.json").read_text())
    tokens = {"held out": len(text.held_out.tokens)}
    for step, chosen in (("pages", np.ones(len(training), bool)), ("kept", kept)):
        counts[step] = [int(chosen.sum()), int(training.characters[chosen].sum())]
        tokens[step] = int(training.lengths[chosen].sum())
    return [
        {
            "source": source.name,
            "component": source.component,
            "role": source.role,
            "step": step,
            "documents": documents,
            "characters": characters,
            "tokens": tokens.get(step),
        }
        for step, (documents, characters) in counts.items()
    ]


def _samples(texts: list[_Text], tokenizer: Tokenizer, seed: int) -> dict[str, list[Any]]:
    """A few pages that the filter kept and dropped, drawn by their hash."""
    return {
        "kept": _some_pages([(t, t.kept) for t in texts], tokenizer, seed),
        "dropped": _some_pages([(t, ~t.kept) for t in texts], tokenizer, seed),
    }


def _some_pages(
    choices: list[tuple[_Text, NDArray[np.bool_]]], tokenizer: Tokenizer, seed: int
) -> list[dict[str, Any]]:
    drawn: list[tuple[float, _Text, int]] = []
    for text, chosen in choices:
        if text.scores is not None:
            pages = np.flatnonzero(chosen)
            draws = uniform(text.training.hashes[pages], seed, "shown")
            best = np.argsort(draws, kind="stable")[:_SAMPLES]
            drawn += [(float(draws[i]), text, int(pages[i])) for i in best]
    drawn.sort(key=lambda each: each[0])
    shown: list[dict[str, Any]] = []
    for _, text, page in drawn[:_SAMPLES]:
        assert text.scores is not None
        body = tokenizer.decode(text.training.document(page)[1:].tolist())
        body = body if len(body) <= _SHOWN else body[: _SHOWN - 1] + "…"
        shown.append({"source": text.source.name, "score": float(text.scores[page]), "text": body})
    return shown


def _quality(texts: list[_Text], pipeline: Pipeline) -> dict[str, Any]:
    filtered = [text for text in texts if text.scores is not None]
    if not filtered:
        return {}
    share = {text.source.name: float(text.kept.mean()) for text in filtered if len(text.kept)}
    auc = pipeline.quality.auc
    return ({} if auc is None else {"auc": auc}) | {"kept_share": share}
