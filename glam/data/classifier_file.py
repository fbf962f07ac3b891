"""A classifier as a folder: its weights as safetensors, and a card of what it was trained on.

classifier.safetensors  weights [folds, features] int32, bias [folds] float64
card.json, README.md    the card, for programs and for people
"""

# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import xxhash

from glam.config import MOST_NGRAMS, FilterConfig, typed_path
from glam.data.classifier import SAMPLE, Classifier
from glam.errors import UserError, first_line
from glam.files import to_json

KEY = "data.filter.model"
FOLDER, WEIGHTS, CARD, README = "classifier", "classifier.safetensors", "card.json", "README.md"
_KIND = "glam.quality_classifier.1"
_WAY_OUT = "name the folder that `python run.py task=prepare` told, or its " + WEIGHTS


@dataclass(frozen=True, kw_only=True)
class TrainedOn:
    """A source that a classifier learnt from."""

    source: str
    role: str  # curated, or pool
    documents: int  # that its pages were drawn from
    pages: int  # likewise
    license: str  # empty: not known


def save_classifier(
    folder: Path, classifier: Classifier, auc: float, trained_on: list[TrainedOn], seed: int
) -> None:
    """Write the classifier with its card into `folder`, which is made. `auc` is the area under the
    ROC curve on pages that each fold was not trained on."""
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(folder / WEIGHTS, classifier)
    card = {
        "kind": _KIND,
        "num_features": classifier.num_features,
        "ngrams": classifier.ngrams,
        "folds": classifier.folds,
        "auc": auc,
        "seed": seed,
        "trained_on": [asdict(each) for each in trained_on],
        "fingerprint": fingerprint(classifier),
    }
    (folder / CARD).write_text(to_json(card))
    (folder / README).write_text(_readme(classifier, auc, trained_on))


def write_weights(path: Path, classifier: Classifier) -> None:
    """The classifier alone."""
    from safetensors.numpy import save_file

    tensors = {"weights": np.ascontiguousarray(classifier.weights), "bias": classifier.bias}
    told = {
        "exponent": classifier.exponent,
        "ngrams": classifier.ngrams,
        "fingerprint": fingerprint(classifier),
    }
    # One value: several would be written in an order that changes.
    save_file(tensors, path, {_KIND: json.dumps(told)})


def fingerprint(classifier: Classifier) -> str:
    """Of all that its scores follow from."""
    state = xxhash.xxh3_128(repr((classifier.exponent, classifier.ngrams)).encode())
    for array in (classifier.weights, classifier.bias):
        state.update(repr(array.shape).encode())
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()


def given_classifier(config: FilterConfig) -> Classifier | None:
    """The classifier that `data.filter.model` names, if it does. Raises UserError where that is
    none, or where other features are asked for than it has."""
    if config.model is None:
        return None
    classifier = load_classifier(typed_path(KEY, config.model))
    for name in ("num_features", "ngrams", "folds"):
        asked, has = getattr(config, name), getattr(classifier, name)
        if asked not in (has, getattr(FilterConfig, name)):
            raise UserError(
                f"data.filter.{name}={asked} but {KEY}={config.model} has {has}; leave "
                f"data.filter.{name} out"
            )
    return classifier


def load_classifier(path: Path) -> Classifier:
    """The classifier at `path`: its folder, or the file of its weights. Raises UserError where
    that is no classifier, or a damaged one."""
    for file in (path / FOLDER / WEIGHTS, path / WEIGHTS, path):
        if file.is_file():
            return _read(file)
    what = "holds no " + WEIGHTS if path.is_dir() else "is not there"
    raise UserError(f"{KEY}={path} {what}; {_WAY_OUT}")


def _read(file: Path) -> Classifier:
    from safetensors import SafetensorError, safe_open

    try:
        file.open("rb").close()  # which says what is wrong, where safetensors says it is not there
        with safe_open(file, framework="numpy") as opened:
            metadata = opened.metadata() or {}
            if _KIND not in metadata:
                raise UserError(f"{KEY}={file} is no classifier of glam; {_WAY_OUT}")
            told = json.loads(metadata[_KIND])
            classifier = Classifier(
                weights=opened.get_tensor("weights"),
                bias=opened.get_tensor("bias"),
                exponent=told["exponent"],
                ngrams=told["ngrams"],
            )
            _check(classifier)
            same = told["fingerprint"] == fingerprint(classifier)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{KEY}={file} cannot be read ({first_line(error)}): a classifier is a file in the "
            f"form of safetensors; {_WAY_OUT}"
        ) from None
    if not same:
        raise UserError(f"{KEY}={file} was changed after it was written; bring it back")
    return classifier


def _check(classifier: Classifier) -> None:
    """Raises ValueError for what no classifier is: the kernel that scores takes it at its word."""
    weights, bias = classifier.weights, classifier.bias
    is_one = (
        (weights.dtype, weights.ndim, bias.dtype) == (np.int32, 2, np.float64)
        and bias.shape == weights.shape[:1]
        and weights.size > 0
        and bool(np.isfinite(bias).all())
        and -64 <= classifier.exponent <= 64
        and classifier.ngrams in range(1, MOST_NGRAMS + 1)
    )
    if not is_one:
        raise ValueError("its tensors are not those of a classifier")


def _readme(classifier: Classifier, auc: float, trained_on: list[TrainedOn]) -> str:
    rows = [
        f"| {each.source} | {each.role} | {each.documents:,} | {each.pages:,} | "
        f"{each.license or 'not known'} |"
        for each in trained_on
    ]
    return "\n".join(
        [
            "# A classifier of the quality of web pages",
            "",
            "Linear, on hashed n-grams of words, trained by `glam` to tell pages of curated text",
            "from web pages, as in GLaM ([arXiv 2112.06905](https://arxiv.org/abs/2112.06905),",
            "section 3). Its score is the probability of being curated: how much a page is *like*",
            "the curated text below, which is not how good it is.",
            "",
            "| | |",
            "| --- | ---: |",
            f"| features | {classifier.num_features:,} |",
            f"| longest n-gram, in words | {classifier.ngrams} |",
            f"| folds, each trained on the documents of the others | {classifier.folds} |",
            f"| area under the ROC curve on pages it was not trained on | {auc:.4f} |",
            "",
            "## Trained on",
            "",
            "| source | role | documents | pages | licence of the text |",
            "| --- | --- | ---: | ---: | --- |",
            *rows,
            "",
            f"Of each role {SAMPLE:,} of the pages at most were drawn, by hash. The licence",
            "of the weights is for whoever trained them to give; that of the text bears on it.",
            "",
            "## Use",
            "",
            "```bash",
            f"python run.py data/corpus=local 'data.corpus.files=[web/]' {KEY}=<this folder>",
            "```",
            "",
            "A page is then scored by the mean of the folds.",
            "",
        ]
    )
