"""From a configuration to tokens: runs the pipeline and tells what it did."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from glam.config import COMPONENTS, DataConfig, MixtureConfig, Source
from glam.data.cache import manifest_digest
from glam.data.contamination import EvaluationItems, held_out_items, overlapping
from glam.data.documents import text_fingerprint
from glam.data.encode import SAMPLES, clean_units, drawn, shown
from glam.data.hashing import digest, uniform
from glam.data.index import Domain
from glam.data.pipeline import Pipeline, Removal
from glam.data.prepared import AnyComponent, PreparedData, join
from glam.data.texts import Texts
from glam.data.tokenizer import Tokenizer
from glam.data.tokens import Encoded, read_encoded
from glam.errors import UserError
from glam.runs.folder import why_closed


@dataclass(frozen=True, eq=False)
class _Part:
    """One shard, encoded: what is kept of its training documents, and their scores."""

    number: int  # of its domain
    domain: Domain
    folder: Path
    training: Encoded
    scores: NDArray[np.float64] | None  # None: not filtered, or only kept pages are encoded
    kept: NDArray[np.bool_] | None  # None: all
    clean: NDArray[np.bool_]  # without overlap with evaluation sets, where that is removed
    is_chosen: bool  # only pages that the filter keeps are encoded

    @cached_property
    def counts(self) -> dict[str, list[int]]:
        return json.loads((self.folder / "counts.json").read_text())

    @property
    def num_kept(self) -> int:
        return len(self.training) if self.kept is None else int(self.kept.sum())


Items = Callable[[Texts], Sequence[EvaluationItems]]


def _held_out_alone(texts: Texts) -> Sequence[EvaluationItems]:
    return [held_out_items(texts)]


def prepare(
    data: DataConfig,
    vocab_size: int,
    cache: Path,
    tokenizer: Tokenizer | None = None,
    items: Items = _held_out_alone,
    meanwhile: Callable[[Texts], object] | None = None,
) -> PreparedData:
    """Prepare the text that `data` describes, or find it in `cache`. The first time shows bars
    and may take a minute; afterwards it takes a fraction of a second. A `tokenizer` that is given,
    as a trained run's, is used; else one is trained. `items` are those of evaluation sets, of which
    `data.contamination.remove` leaves out what overlaps. `meanwhile` asks the text for what a run
    wants of it besides, while a tokenizer is trained; where none is, it is not called. Raises
    `UserError` for text that is missing, unreadable or too little."""
    pipeline = Pipeline(data, vocab_size, cache, tokenizer, _removal(items))
    pipeline.run(None if meanwhile is None else lambda: meanwhile(Texts(pipeline)))
    parts = _read(pipeline)
    domains = pipeline.index.domains
    held_out = [
        read_encoded(pipeline.held_out(number), pipeline.tokenizer)
        for number in range(len(domains))
    ]
    components = _components(parts, data.mixture, data.left_out)
    return PreparedData(
        fingerprint=_fingerprint(parts, components, pipeline.tokenizer),
        tokenizer=pipeline.tokenizer,
        sources=[domain.name for domain in domains],
        components=components,
        held_out={
            domain.name: each for domain, each in zip(domains, held_out, strict=True) if len(each)
        },
        funnel=_funnel(pipeline, parts, held_out),
        samples=_samples(parts, pipeline.tokenizer, data.seed),
        quality=_quality(parts, pipeline),
        text_fingerprint=text_fingerprint(pipeline.sources, cache),
        origins=_origins(pipeline.sources),
        texts=Texts(pipeline),
        classifier=pipeline.classifier,
    )


def _origins(sources: list[Source]) -> list[dict[str, str]]:
    return [
        {"name": source.name, "license": source.license, "origin": source.origin}
        for source in sources
        if source.license or source.origin
    ]


def _removal(items: Items) -> Removal:
    def removal(pipeline: Pipeline) -> dict[int, Path]:
        texts = Texts(pipeline)
        return overlapping(texts, items(texts))

    return removal


def cached_texts(data: DataConfig, vocab_size: int, cache: Path) -> Texts | None:
    """The text that `data` describes where `cache` has it read; None where it has not. Raises
    UserError for text that is missing."""
    pipeline = Pipeline(data, vocab_size, cache)
    return Texts(pipeline) if pipeline.has_documents else None


def check_cache(
    data: DataConfig, vocab_size: int, cache: Path, items: Items = _held_out_alone
) -> None:
    """Raises UserError where the text is not in `cache` yet, and nothing can be written there."""
    if (reason := why_closed(cache)) is None:
        return
    if not Pipeline(data, vocab_size, cache, removal=_removal(items)).is_cached:
        raise UserError(
            f"cache_dir={cache} cannot be written ({reason}), and it does not hold this text "
            f"whole; name another folder with cache_dir=..."
        )


def _read(pipeline: Pipeline) -> list[_Part]:
    parts: list[_Part] = []
    for place, shard in enumerate(pipeline.index.shards):
        domain = pipeline.index.domains[shard.domain]
        folder = pipeline.tokens[place]
        training = read_encoded(folder / "training", pipeline.tokenizer)
        is_filtered = pipeline.filters and domain.role == "pool"
        kept, scores = None, None
        if domain.name in pipeline.data.left_out:
            kept = np.zeros(len(training), bool)
        if is_filtered and not pipeline.is_large:
            choice = pipeline.choice(place)
            scores = choice.scored()
            chosen = choice.keeps(scores, training.hashes)
            kept = chosen if kept is None else kept & chosen
        is_chosen = is_filtered and pipeline.is_large
        clean = clean_units(None if is_chosen else pipeline.removed.get(place), len(training))
        if not clean.all():
            kept = clean if kept is None else kept & clean
        parts.append(
            _Part(
                number=shard.domain,
                domain=domain,
                folder=folder,
                training=training,
                scores=scores,
                kept=kept,
                clean=clean,
                is_chosen=is_chosen,
            )
        )
    return parts


def _components(
    parts: list[_Part], mixture: MixtureConfig, left_out: list[str]
) -> list[AnyComponent]:
    """The components that the corpus has text for, with the paper's weights shared out anew."""
    parts = [part for part in parts if part.domain.name not in left_out]
    present = {
        name: its
        for name in COMPONENTS
        if getattr(mixture, name)
        and (its := [part for part in parts if part.domain.component == name and _pages(part)])
    }
    if not present:
        names = sorted({part.domain.component for part in parts if _pages(part)})
        if not names:  # what is not left out has no text
            raise UserError(f"data.left_out={left_out} leaves nothing to train on; shorten it")
        raise UserError(
            f"data.mixture.{names[0]}=0 leaves nothing to train on, for the corpus has only "
            f"{' and '.join(names)}; give it a weight"
        )
    for name, its in present.items():
        if not any(part.clean.any() for part in its):
            raise UserError(
                f"data.contamination.remove=true leaves none of the {sum(map(_pages, its)):,} "
                f"pages of {name}, for all of them overlap with evaluation sets; give more text, a "
                f"smaller data.held_out_fraction, or leave it out"
            )
        if not any(part.num_kept for part in its):
            raise UserError(
                f"data.filter keeps none of the {sum(map(_pages, its)):,} pages of "
                f"{name}; give more text, data.filter.calibrate=true, a lower "
                f"data.filter.threshold where that is the filter, or data=unfiltered"
            )
    total = sum(getattr(mixture, name) for name in present)
    return [
        join(
            name,
            getattr(mixture, name) / total,
            [(part.number, part.training, part.kept) for part in its],
        )
        for name, its in present.items()
    ]


def _pages(part: _Part) -> int:
    """Pages, or curated documents, that the filter chooses from."""
    return part.counts["pages"][0] if part.is_chosen else len(part.training)


def _fingerprint(parts: list[_Part], components: list[AnyComponent], tokenizer: Tokenizer) -> str:
    """Of all the tokens that are served, by content."""
    return digest(
        [
            tokenizer.fingerprint,
            [[component.name, component.weight] for component in components],
            [
                [
                    part.domain.name,
                    part.domain.component,
                    manifest_digest(part.folder),
                    _digest_of(part),
                ]
                for part in parts
            ],
        ]
    )


def _digest_of(part: _Part) -> str:
    """Of the choice among what is encoded."""
    kept = np.ones(len(part.training), bool) if part.kept is None else part.kept
    return xxhash.xxh3_64_hexdigest(np.packbits(kept).tobytes())


_STEPS = ("read", "distinct", "held out", "training", "pages", "kept")
_CLEAN = "without overlap"  # a step before the last, where overlap is removed


def _funnel(
    pipeline: Pipeline, parts: list[_Part], held_out: list[Encoded]
) -> list[dict[str, Any]]:
    """A row for each domain and step."""
    rows: list[dict[str, Any]] = []
    for number, domain in enumerate(pipeline.index.domains):
        sizes: dict[str, list[int]] = dict(pipeline.funnel[number])
        tokens: dict[str, int | None] = {"held out": len(held_out[number].tokens)}
        mine = [part for part in parts if part.number == number]
        if domain.role != "pool":
            sizes["pages"] = sizes["training"]
        found = [_kept(part, pipeline.tokenizer) for part in mine]
        if pipeline.removed:
            sizes[_CLEAN] = _clean_sizes(pipeline, number)
        steps = [*_STEPS[:-1], *([_CLEAN] if pipeline.removed else []), _STEPS[-1]]
        sizes["kept"] = [sum(each[i] for each in found) for i in range(3)]
        tokens["kept"] = sum(each[3] for each in found)
        if not any(part.is_chosen for part in mine):
            tokens["pages"] = sum(len(part.training.tokens) for part in mine)
        rows += [
            {
                "source": domain.name,
                "component": domain.component,
                "role": domain.role,
                "step": step,
                "documents": sizes[step][0],
                "characters": sizes[step][1],
                "megabytes": sizes[step][2] / 1e6,
                "tokens": tokens.get(step),
            }
            for step in steps
        ]
        rows[-len(steps)]["bad_records"] = _bad(pipeline, number)
        rows[1 - len(steps)] |= {
            f"{kind}_copies": sizes[f"{kind} copies"][0] for kind in ("exact", "near")
        }
    return rows


def _clean_sizes(pipeline: Pipeline, domain: int) -> list[int]:
    """Pages or documents, characters and bytes that are left of a domain without overlap; nothing
    of one that is not trained on."""
    folders = (pipeline.removed.get(place) for place in pipeline.index.of_domain(domain))
    found = [json.loads((each / "counts.json").read_text()) for each in folders if each]
    return [sum(sizes) for sizes in zip([0, 0, 0], *found, strict=True)]


def _kept(part: _Part, tokenizer: Tokenizer) -> tuple[int, int, int, int]:
    """Documents, characters, bytes and tokens of what is kept of a shard."""
    training, kept = part.training, part.kept
    if part.is_chosen:
        if kept is not None:
            return 0, 0, 0, 0
        documents, num_bytes = part.counts["kept"]
        return documents, int(training.characters.sum()), num_bytes, len(training.tokens)
    kept = np.ones(len(training), bool) if kept is None else kept
    return (
        int(kept.sum()),
        int(training.characters[kept].sum()),
        sum(int(tokenizer.num_bytes[t].sum(dtype=np.int64)) for t in training.batches(kept)),
        int(training.lengths[kept].sum()),
    )


def _bad(pipeline: Pipeline, number: int) -> dict[str, int]:
    """Bad records by kind, at the first domain of each source."""
    domains = pipeline.index.domains
    source = domains[number].source
    first = next(place for place, domain in enumerate(domains) if domain.source == source)
    return pipeline.index.bad[source] if number == first else {}


def _samples(parts: list[_Part], tokenizer: Tokenizer, seed: int) -> dict[str, list[Any]]:
    """A few pages that the filter kept and dropped, drawn by their hash."""
    found: dict[str, list[Any]] = {}
    for kind in ("kept", "dropped"):
        drawn: list[tuple[float, _Part, Any]] = []
        for part in parts:
            drawn += [(draw, part, what) for draw, what in _some_pages(part, kind, seed)]
        drawn.sort(key=lambda each: each[0])
        found[kind] = [_sample(part, what, tokenizer) for _, part, what in drawn[:SAMPLES]]
    return found


def _some_pages(part: _Part, kind: str, seed: int) -> list[tuple[float, Any]]:
    """A shard's pages to show with their draws: what was written of them, or their places."""
    if part.is_chosen:
        written = json.loads((part.folder / "samples.json").read_text())
        return [(each["draw"], each) for each in written[kind]]
    if part.scores is None:
        return []
    assert part.kept is not None
    chosen = part.kept if kind == "kept" else part.clean & ~part.kept
    places = drawn(part.training.hashes, chosen, seed)
    draws = uniform(part.training.hashes[places], seed, "shown")
    return list(zip(draws.tolist(), places.tolist(), strict=True))


def _sample(part: _Part, what: Any, tokenizer: Tokenizer) -> dict[str, Any]:
    if isinstance(what, dict):
        return {"source": part.domain.name, "score": what["score"], "text": what["text"]}
    assert part.scores is not None
    text = shown(tokenizer.decode(part.training.document(what)[1:].tolist()))
    return {"source": part.domain.name, "score": float(part.scores[what]), "text": text}


def _quality(parts: list[_Part], pipeline: Pipeline) -> dict[str, Any]:
    if not pipeline.filters:
        return {}
    pages, kept = dict[str, int](), dict[str, int]()
    for part in parts:
        if part.domain.role == "pool":
            name = part.domain.name
            pages[name] = pages.get(name, 0) + _pages(part)
            kept[name] = kept.get(name, 0) + part.num_kept
    share = {name: kept[name] / pages[name] for name in pages if pages[name]}
    auc = pipeline.auc
    return ({} if auc is None else {"auc": auc}) | {"kept_share": share}
