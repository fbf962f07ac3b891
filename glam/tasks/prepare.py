"""`task=prepare`: text to packed tokens, cached."""

import importlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glam.config import EvaluationConfig, RunConfig
from glam.errors import UserError
from glam.log import log
from glam.machine.resources import pin_threads, resolve
from glam.progress import stage
from glam.runs.folder import check_writable
from glam.runs.initial import find_initial
from glam.tasks.overlap import items_of, keep_overlap_of, say_overlap

HELD_OUT = "held_out"  # the choice of `evaluation` without tasks

if TYPE_CHECKING:
    from glam.data import PreparedData, Texts, Tokenizer


def prepare(config: RunConfig, overrides: list[str]) -> None:
    """Prepare the text of a run, and show what each step left of it: at the terminal and as a
    page."""
    from glam.reporting import funnel  # matplotlib

    check_places(config)
    pin_threads(resolve(config))
    prepared = prepared_text(config)
    prepare_suite(config, prepared)
    overlaps = say_overlap(config, prepared)
    funnel.show(prepared.funnel)
    tokens = sum(component.num_tokens for component in prepared.components)
    print(f"{tokens:,} training tokens in {len(prepared.components)} components; ready to train")
    if prepared.classifier is not None:
        print(
            f"quality classifier  {prepared.classifier}  (data.filter.model=… gives it to another)"
        )
    print(f"page  {_page(config, prepared, overlaps)}")


def _page(config: RunConfig, prepared: "PreparedData", overlaps: dict[str, Any]) -> Path:
    """Write the page of what was prepared; where it lies."""
    from glam.reporting import preparation

    page = config.cache_path / "preparations" / f"{prepared.fingerprint}.html"
    data = config.data
    settings = {
        "corpus": data.corpus.name,
        "filter": data.filter.name,
        "vocabulary": f"{config.model.vocab_size:,} pieces",
        "page characters": f"{data.page_characters:,}",
        "held out fraction": f"{data.held_out_fraction:g}",
        "seed": str(data.seed),
    }
    preparation.write(page, described(prepared) | {"settings": settings}, overlaps)
    return page


def described(prepared: "PreparedData") -> dict[str, Any]:
    """What a run keeps of its text, but for what depends on its training."""
    return {
        "fingerprint": prepared.fingerprint,
        "text_fingerprint": prepared.text_fingerprint,
        "origins": prepared.origins,
        "funnel": prepared.funnel,
        "samples": prepared.samples,
        "quality": prepared.quality,
    }


def check_places(config: RunConfig) -> None:
    """Raises UserError for a folder that a run has to write to and cannot."""
    from glam.data import check_cache

    check_writable(config)
    check_cache(config.data, config.model.vocab_size, config.cache_path, items_of(config))


def prepared_text(config: RunConfig, tokenizer: "Tokenizer | None" = None) -> "PreparedData":
    """The tokenizer, one that is given, that of the weights that a run begins with, or else
    trained; and the packed tokens of a run, from the cache where it has them. What overlaps with
    the sets of `evaluation` is left out where that is asked for."""
    with stage("reading the text"):
        from glam.data import prepare as prepare_data

        if tokenizer is None and config.model.init_from is not None:
            if config.data.tokenizer is not None:
                raise UserError(
                    f"data.tokenizer={config.data.tokenizer}: the weights of "
                    f"model.init_from={config.model.init_from} have a tokenizer of their own; "
                    f"leave data.tokenizer out"
                )
            tokenizer = initial_tokenizer(config)
        size, cache = config.model.vocab_size, config.cache_path
        meanwhile = partial(_beside_the_tokenizer, config)
        return prepare_data(config.data, size, cache, tokenizer, items_of(config), meanwhile)


def _beside_the_tokenizer(config: RunConfig, texts: "Texts") -> None:
    """What a run needs besides and a core is free for: a tokenizer is learnt on one."""
    keep_overlap_of(config, texts)
    if config.task.name == "train":
        importlib.import_module("glam.training")


def prepare_suite(config: RunConfig, prepared: "PreparedData") -> None:
    """Make what the tasks of `evaluation` need of the text, once. Raises UserError for a task that
    there is not, before a run trains for it; what cannot be kept is told, and fails no run."""
    if config.evaluation.name == HELD_OUT:
        return
    from glam.evaluation.suites import SUITES

    check_data_dir(config.evaluation)
    suite = SUITES[config.evaluation.name]()
    suite.check(config.evaluation)
    try:
        suite.prepare(prepared)
    except UserError as error:
        log.warning(f"evaluation={suite.name}: its tasks cannot be made beforehand ({error})")


def check_data_dir(evaluation: EvaluationConfig) -> None:
    """Raises UserError for a folder of the tasks' data that is not there."""
    folder = evaluation.data_dir
    if folder and not Path(folder).expanduser().is_dir():
        raise UserError(
            f"evaluation.data_dir={folder} is no folder; name one that has the tasks' data "
            f"(docs/tasks.md says its layout), or leave it out for the Hugging Face hub"
        )


def initial_tokenizer(config: RunConfig) -> "Tokenizer":
    """The tokenizer of the weights that the run begins with. Raises UserError where it does not
    fit the model."""
    from glam.data import Tokenizer

    initial = find_initial(config)
    tokenizer = Tokenizer(initial.folder)
    if tokenizer.vocab_size != config.model.vocab_size:
        raise initial.refusal(
            f"its tokenizer has {tokenizer.vocab_size:,} pieces and its model "
            f"{config.model.vocab_size:,}, so it is not its own; bring that back"
        )
    return tokenizer
