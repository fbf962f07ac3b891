import dataclasses
import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from glam.config import DataConfig, FilterConfig, LocalCorpusConfig, MixtureConfig
from glam.data import PreparedData, Texts, TrainStream, check_cache, prepare
from glam.data.cache import Cache
from glam.data.hashing import document_hash
from glam.errors import UserError

VOCAB = 400
UNFILTERED = FilterConfig(name="none")


@pytest.fixture(scope="module")
def unfiltered(data: DataConfig, cache: Path, prepared: PreparedData) -> PreparedData:
    assert prepared.quality
    return prepare(dataclasses.replace(data, filter=UNFILTERED), VOCAB, cache)


def rows(prepared: PreparedData, step: str) -> dict[str, dict[str, int]]:
    return {row["source"]: row for row in prepared.funnel if row["step"] == step}


def texts(prepared: PreparedData) -> dict[str, list[str]]:
    """What training serves of each source."""
    found: dict[str, list[str]] = {name: [] for name in prepared.sources}
    for each in prepared.components:
        for part, start, length in zip(each.part, each.starts, each.lengths, strict=True):
            tokens = each.parts[part][start + 1 : start + length].tolist()
            found[prepared.sources[each.sources[part]]].append(prepared.tokenizer.decode(tokens))
    return found


def held_out_texts(prepared: PreparedData) -> dict[str, list[str]]:
    return {
        domain: [
            prepared.tokenizer.decode(encoded.document(i)[1:].tolist()) for i in range(len(encoded))
        ]
        for domain, encoded in prepared.held_out.items()
    }


def originals(corpus: LocalCorpusConfig) -> dict[str, list[str]]:
    return {
        path.stem: [json.loads(line)["text"] for line in path.read_text().splitlines()]
        for folder in (*corpus.files, *corpus.curated)
        for path in Path(folder).iterdir()
    }


def test_every_document_is_trained_on_or_held_out_never_both(
    corpus: LocalCorpusConfig, unfiltered: PreparedData
) -> None:
    trained, held = texts(unfiltered), held_out_texts(unfiltered)
    for name, documents in originals(corpus).items():
        whole = set(held[name])
        assert 1 <= len(whole) < len(documents)
        assert whole <= set(documents)
        rest = " ".join(text for text in documents if text not in whole)
        assert " ".join(trained[name]).split() == rest.split()


def test_held_out_documents_never_occur_in_training_batches(prepared: PreparedData) -> None:
    """The number that ends each document of the corpus marks it."""
    stream = TrainStream(prepared, 64, 8, seed=0)
    seen = [stream.batch(i) for i in range(200)]
    assert min(stream.epochs(200).values()) > 1
    text = " ".join(
        prepared.tokenizer.decode(row.tolist()) for batch in seen for row in batch.tokens
    )
    for documents in held_out_texts(prepared).values():
        for document in documents:
            assert document[-60:] not in text


def test_filtered_and_unfiltered_share_tokenizer_and_tokens(
    prepared: PreparedData, unfiltered: PreparedData
) -> None:
    assert prepared.tokenizer.fingerprint == unfiltered.tokenizer.fingerprint
    assert prepared.fingerprint != unfiltered.fingerprint
    for a, b in zip(prepared.components, unfiltered.components, strict=True):
        assert all(map(np.array_equal, a.parts, b.parts))
        assert a.weight == b.weight
        kept = set(zip(a.part.tolist(), a.starts.tolist(), strict=True))
        every = set(zip(b.part.tolist(), b.starts.tolist(), strict=True))
        assert kept < every if a.name == "webpages" else kept == every


def test_the_filter_prefers_pages_like_the_curated_text(prepared: PreparedData) -> None:
    kept = [sample["score"] for sample in prepared.samples["kept"]]
    dropped = [sample["score"] for sample in prepared.samples["dropped"]]
    assert len(kept) == len(dropped) == 10
    assert np.mean(kept) > np.mean(dropped)
    assert prepared.quality["auc"] > 0.7


def test_the_share_kept_is_the_one_that_the_ranks_promise(prepared: PreparedData) -> None:
    pages, kept = (rows(prepared, step) for step in ("pages", "kept"))
    total = sum(pages[name]["documents"] for name in ("posts", "chats"))
    share = sum(kept[name]["documents"] for name in ("posts", "chats")) / total
    expected = 1 - 2**-1  # the integral of (1 + x) ** -2 over [0, 1]
    assert abs(share - expected) < 4 * (expected * (1 - expected) / total) ** 0.5
    for name, mine in prepared.quality["kept_share"].items():
        assert mine == kept[name]["documents"] / pages[name]["documents"]


def test_a_page_keeps_its_side_and_its_fate_in_whatever_order_it_is_read(
    data: DataConfig, corpus: LocalCorpusConfig, prepared: PreparedData, tmp_path: Path
) -> None:
    for folder in (*corpus.files, *corpus.curated):
        (tmp_path / Path(folder).name).mkdir()
        for path in Path(folder).iterdir():
            lines = path.read_text().splitlines()[::-1]
            (tmp_path / Path(folder).name / path.name).write_text("\n".join(lines))
    moved = LocalCorpusConfig(files=[str(tmp_path / "web")], curated=[str(tmp_path / "curated")])
    again = prepare(dataclasses.replace(data, corpus=moved), VOCAB, tmp_path / "cache")
    for found in (held_out_texts, texts):
        mine, other = found(prepared), found(again)
        for name in prepared.sources:
            assert sorted(mine[name]) == sorted(other[name])


def test_the_funnel_narrows_step_by_step(prepared: PreparedData) -> None:
    steps = {step: rows(prepared, step) for step in ("read", "distinct", "held out", "training")}
    for name in prepared.sources:
        read, distinct, held, training = (each[name] for each in steps.values())
        assert read["documents"] >= distinct["documents"]
        assert held["documents"] + training["documents"] == distinct["documents"]
        assert rows(prepared, "kept")[name]["tokens"] <= rows(prepared, "pages")[name]["tokens"]
    served = {c.name: c.num_tokens for c in prepared.components}
    for name, tokens in served.items():
        kept = rows(prepared, "kept").values()
        assert tokens == sum(row["tokens"] for row in kept if row["component"] == name)


def test_duplicates_within_and_between_sources_are_trained_on_once(
    write: Callable[[str, str], Path], data: DataConfig, corpus: LocalCorpusConfig, tmp_path: Path
) -> None:
    lines = (Path(corpus.files[0]) / "posts.jsonl").read_text()
    spaced = [line.replace(" ", "  ") for line in lines.splitlines()]
    write("web/posts.jsonl", lines + "\n".join(spaced))
    write("web/copies.jsonl", lines)
    config = LocalCorpusConfig(files=[str(tmp_path / "web")])
    one = prepare(
        dataclasses.replace(data, corpus=config, filter=UNFILTERED), 300, tmp_path / "cache"
    )
    everything = [t for documents in held_out_texts(one).values() for t in documents]
    assert len({document_hash(t) for t in everything}) == len(everything)
    assert sum(row["documents"] for row in rows(one, "distinct").values()) == 60
    assert "posts" not in one.domains  # all of its documents are copies of those in `copies`


def test_preparing_again_does_no_work(
    data: DataConfig, cache: Path, prepared: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cache, "_make", lambda *_: pytest.fail("a stage was made again"))
    again = prepare(data, VOCAB, cache)
    assert again.fingerprint == prepared.fingerprint
    assert again.funnel == prepared.funnel
    assert again.samples == prepared.samples


def test_another_alpha_only_chooses_other_pages(
    data: DataConfig, cache: Path, prepared: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cache, "_make", lambda *_: pytest.fail("a stage was made again"))
    strict = prepare(
        dataclasses.replace(data, filter=dataclasses.replace(data.filter, alpha=4.0)), VOCAB, cache
    )
    assert strict.fingerprint != prepared.fingerprint
    for name, share in strict.quality["kept_share"].items():
        assert share < prepared.quality["kept_share"][name]


def test_changed_text_is_prepared_anew(
    write: Callable[[str, str], Path], data: DataConfig, corpus: LocalCorpusConfig, tmp_path: Path
) -> None:
    lines = (Path(corpus.files[0]) / "posts.jsonl").read_text().splitlines()
    config = dataclasses.replace(
        data, corpus=LocalCorpusConfig(files=[str(tmp_path / "web")]), filter=UNFILTERED
    )
    write("web/posts.jsonl", "\n".join(lines))
    before = prepare(config, 300, tmp_path / "cache")
    write("web/posts.jsonl", "\n".join([lines[0].replace("a", "e", 1), *lines[1:]]))
    after = prepare(config, 300, tmp_path / "cache")
    assert before.fingerprint != after.fingerprint


def test_the_papers_weights_are_shared_out_among_what_is_there(prepared: PreparedData) -> None:
    weights = {each.name: each.weight for each in prepared.components}
    assert weights == pytest.approx({"webpages": 0.42 / 0.62, "books": 0.20 / 0.62})


def test_a_component_of_weight_nothing_is_not_trained_on_but_still_judged(
    data: DataConfig, cache: Path, prepared: PreparedData
) -> None:
    bookless = prepare(dataclasses.replace(data, mixture=MixtureConfig(books=0)), VOCAB, cache)
    assert [each.name for each in bookless.components] == ["webpages"]
    assert bookless.components[0].weight == 1
    assert bookless.domains == prepared.domains


def refusal(data: DataConfig, corpus: LocalCorpusConfig, cache: Path) -> str:
    with pytest.raises(UserError) as refused:
        prepare(dataclasses.replace(data, corpus=corpus), VOCAB, cache)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_filter_without_curated_text_is_refused_with_both_ways_out(
    data: DataConfig, corpus: LocalCorpusConfig, tmp_path: Path
) -> None:
    message = refusal(data, LocalCorpusConfig(files=corpus.files), tmp_path)
    assert "data.corpus.curated=[" in message
    assert "data=unfiltered" in message
    assert not list(tmp_path.iterdir())


def test_too_little_text_is_refused_with_what_to_give(
    write: Callable[[str, str], Path], data: DataConfig, corpus: LocalCorpusConfig, tmp_path: Path
) -> None:
    one, blank = write("one/a.txt", "a b c"), write("blank.jsonl", '{"text": " "}')
    same = write("same.jsonl", '{"text": "some words"}\n' * 9)
    copy = write("copy.jsonl", '{"text": "other words"}\n{"text": "some  words"}\n')
    two = write("two.jsonl", '{"text": "some words"}\n{"text": "other words"}\n')
    for given, says in (
        (LocalCorpusConfig(curated=[str(one)]), "no domain with two documents"),
        (LocalCorpusConfig(curated=[str(blank)]), f"none in {blank}; name other files"),
        (LocalCorpusConfig(curated=[str(two)], held_out=[str(copy)]), "copies of what is; give"),
        (LocalCorpusConfig(curated=[str(same)]), "no domain with two documents that are no cop"),
        (LocalCorpusConfig(curated=[str(two)]), "model.vocab_size=400"),
        (LocalCorpusConfig(files=corpus.files, curated=[str(one)]), "data.filter.folds=2 needs"),
    ):
        assert says in refusal(data, given, tmp_path / "cache")


def test_too_many_bad_records_are_refused_with_the_first_and_the_share_that_fits(
    write: Callable[[str, str], Path], data: DataConfig, tmp_path: Path
) -> None:
    path = write("good.jsonl", '{"text": "some words"}\n' * 500 + "{\n" * 6)
    message = refusal(data, LocalCorpusConfig(curated=[str(path)]), tmp_path / "cache")
    assert message == (
        f"data.corpus.max_bad_share=0.01 but 6 of 506 records of good are no documents (1.2 %: "
        f"6 not JSON; the first is {path}:501); mend them, or set data.corpus.max_bad_share=0.02"
    )


def test_a_few_bad_records_are_left_out_and_said(
    data: DataConfig, corpus: LocalCorpusConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(corpus.curated[0], tmp_path / "curated")
    with (tmp_path / "curated/laws.jsonl").open("a") as file:
        file.write('{"text": "cut')
    ours = LocalCorpusConfig(
        files=corpus.files, curated=[str(tmp_path / "curated")], max_bad_share=0.05
    )
    prepared = prepare(dataclasses.replace(data, corpus=ours), VOCAB, tmp_path / "cache")
    assert rows(prepared, "training")["laws"]["documents"] > 50
    assert any(line.startswith("laws: ") and "1 not JSON" in line for line in caplog.messages)


def test_a_mixture_of_nothing_is_refused(data: DataConfig, cache: Path) -> None:
    nothing = MixtureConfig(webpages=0, books=0)
    with pytest.raises(UserError, match=r"data.mixture.books=0 .* books and webpages"):
        prepare(dataclasses.replace(data, mixture=nothing), VOCAB, cache)


def test_a_filter_that_keeps_no_page_is_refused(data: DataConfig, cache: Path) -> None:
    strict = dataclasses.replace(data.filter, alpha=1e6, calibrate=False)
    with pytest.raises(UserError, match=r"keeps none of the \d+ pages of webpages"):
        prepare(dataclasses.replace(data, filter=strict), VOCAB, cache)


JOB = """
import sys
from pathlib import Path
from glam.config import DataConfig, LocalCorpusConfig
from glam.data import prepare
files, curated, cache = sys.argv[1:]
corpus = LocalCorpusConfig(files=[files], curated=[curated])
data = DataConfig(corpus=corpus, page_characters=300, tokenizer_megabytes=1.0)
data.filter.alpha = 2.0
print(prepare(data, 400, Path(cache)).fingerprint)
"""


@pytest.mark.slow
def test_jobs_that_start_together_prepare_once(
    corpus: LocalCorpusConfig, prepared: PreparedData, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", JOB, corpus.files[0], corpus.curated[0], str(tmp_path)]
    jobs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [job.communicate() for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], said
    assert [out.strip() for out, _ in said] == [prepared.fingerprint] * 2
    lines = [line for _, err in said for line in err.splitlines()]
    assert sum(line.startswith("quality classifier:") for line in lines) == 1


@pytest.mark.parametrize("kind", [UNFILTERED, FilterConfig()])
def test_a_source_left_out_is_evaluated_on_and_never_trained_on(
    data: DataConfig, cache: Path, prepared: PreparedData, kind: FilterConfig
) -> None:
    name = next(row["source"] for row in prepared.funnel if row["role"] == "pool")
    without = prepare(dataclasses.replace(data, filter=kind, left_out=[name]), VOCAB, cache)
    assert texts(without)[name] == []
    assert rows(without, "kept")[name]["documents"] == 0
    assert held_out_texts(without)[name] == held_out_texts(prepared)[name]
    assert without.fingerprint != prepared.fingerprint


def test_what_may_not_be_left_out_is_one_line(data: DataConfig, cache: Path) -> None:
    every = [path.stem for path in Path(data.corpus.files[0]).iterdir()]
    every += [path.stem for path in Path(data.corpus.curated[0]).iterdir()]
    for left_out, words in [
        (["post"], "no source here; did you mean posts"),
        (every, "shorten it"),
    ]:
        with pytest.raises(UserError, match=words):
            prepare(dataclasses.replace(data, left_out=left_out), VOCAB, cache)


def test_characters_that_utf8_cannot_hold_are_counted_and_nothing_else_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [f"word{i} \ud83d \u2581 and \u2585 of {'many ' * 40}{i}" for i in range(20)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in lines))
    data = DataConfig(corpus=LocalCorpusConfig(files=[str(tmp_path)]), filter=UNFILTERED)
    prepared = prepare(data, 280, tmp_path / "cache")
    assert caplog.messages == ["a: replaced what no token can hold: 20 lone surrogates by ?"]
    found = [text for side in (texts, held_out_texts) for text in side(prepared)["a"]]
    assert sorted(found) == sorted(text.replace("\ud83d", "?") for text in lines)


def test_descriptors_do_not_grow_with_the_number_of_domains(tmp_path: Path) -> None:
    for domain in range(12):
        lines = [json.dumps({"text": f"word {i} of {domain} " * 20}) for i in range(4)]
        (tmp_path / f"{domain}.jsonl").write_text("\n".join(lines))
    data = DataConfig(corpus=LocalCorpusConfig(files=[str(tmp_path)]), filter=UNFILTERED)
    before = len(list(Path("/dev/fd").iterdir()))
    prepared = prepare(data, 280, tmp_path / "cache")
    assert len(prepared.held_out) == 12
    assert len(list(Path("/dev/fd").iterdir())) < before + 10


def test_a_tokenizer_that_is_given_is_used_and_none_is_trained(
    data: DataConfig, prepared: PreparedData, tmp_path: Path
) -> None:
    assert prepared.quality
    own = prepare(data, 300, tmp_path, prepared.tokenizer)
    assert own.fingerprint == prepared.fingerprint
    assert not list(tmp_path.glob("tokenizer-*"))


def test_a_cache_that_is_read_only_serves_where_it_is_complete(
    data: DataConfig,
    prepared: PreparedData,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def closed(path: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "touch", closed)
    check_cache(data, VOCAB, cache)
    said = r"cannot be written \(Read-only file system\), and it does not hold this text whole"
    with pytest.raises(UserError, match=said):
        check_cache(data, VOCAB + 13, cache)  # which no other test prepares
    less = tmp_path / "less"
    for stage in ("index", "funnel", "ranks", "scores", "tokens", "tokenizer"):
        shutil.copytree(cache, less)
        for folder in less.glob(f"{stage}-*"):  # of other tests too
            shutil.rmtree(folder)
        held = set(less.iterdir())
        with pytest.raises(UserError, match=said):
            check_cache(data, VOCAB, less)
        assert set(less.iterdir()) == held
        shutil.rmtree(less)
    assert prepare(data, VOCAB, cache).fingerprint == prepared.fingerprint


def test_a_reader_that_fails_in_mid_file_is_one_line(
    data: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path, _: int):
        raise OSError(5, "Input/output error", str(path))
        yield

    monkeypatch.setattr("glam.data.formats.jsonl.lines", broken)
    with pytest.raises(
        UserError, match=r"data.corpus: .*jsonl cannot be read \(Input/output error"
    ):
        prepare(data, VOCAB, tmp_path)


def test_a_threshold_on_published_scores_keeps_the_documents_above_it(tmp_path: Path) -> None:
    with (tmp_path / "web.jsonl").open("w") as file:
        for i in range(60):
            text = " ".join(f"word{(i * j) % 61}" for j in range(60))
            file.write(json.dumps({"text": f"{text} #{i}", "quality": i / 10}) + "\n")
    corpus = LocalCorpusConfig(files=[str(tmp_path)], score_field="quality")
    rule = FilterConfig(scores="published", name="threshold", calibrate=False, threshold=3.0)
    data = DataConfig(corpus=corpus, filter=rule, page_characters=200)
    found = prepare(data, 300, tmp_path / "cache")
    kept, held = (
        {int(text.partition("#")[2]) for text in side(found)["web"] if "#" in text}
        for side in (texts, held_out_texts)
    )
    assert kept == set(range(31, 60)) - held
    assert found.quality["kept_share"]["web"] == pytest.approx(
        len(kept) / (60 - len(held)), rel=0.1
    )
    assert "auc" not in found.quality
    assert found.classifier is None


def test_text_without_scores_beside_some_that_has_them_is_refused_by_name(
    write: Callable[[str, str], Path], tmp_path: Path
) -> None:
    write("web.jsonl", "".join(f'{{"text": "words {i}", "score": {i}}}\n' for i in range(30)))
    write("notes/a.txt", "some words"), write("notes/b.txt", "other words")
    corpus = LocalCorpusConfig(files=[str(tmp_path)], score_field="score")
    data = DataConfig(corpus=corpus, filter=FilterConfig(scores="published"))
    with pytest.raises(UserError, match=r"^data.filter.scores=published but notes has text .*out$"):
        prepare(data, 300, tmp_path / "cache")


def test_a_classifier_that_was_trained_here_filters_text_without_any_curated(
    data: DataConfig, prepared: PreparedData, cache: Path
) -> None:
    assert prepared.classifier is not None
    assert isinstance(data.corpus, LocalCorpusConfig)
    alone = dataclasses.replace(data.corpus, curated=[])
    rule = dataclasses.replace(data.filter, model=str(prepared.classifier))
    found = prepare(dataclasses.replace(data, corpus=alone, filter=rule), VOCAB, cache)
    assert 0 < found.quality["kept_share"]["posts"] < 1
    assert (found.quality.keys(), found.classifier) == ({"kept_share"}, None)


def test_the_text_is_asked_meanwhile_where_a_tokenizer_is_learnt_and_there_alone(
    data: DataConfig, tmp_path: Path
):
    asked: list[str] = []

    def meanwhile(texts: Texts) -> None:
        asked.append(texts.key)

    first, again = (
        prepare(data, VOCAB, tmp_path / "cache", meanwhile=meanwhile).texts for _ in range(2)
    )
    assert first is not None
    assert again is not None
    assert asked == [first.key] == [again.key]
