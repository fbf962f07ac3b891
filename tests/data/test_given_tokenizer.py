"""A SentencePiece model that is given: text comes back from it, or it is refused."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2

from glam.config import DataConfig, FilterConfig
from glam.data import PreparedData, Tokenizer, prepare
from glam.data.given_tokenizer import given_model, import_tokenizer
from glam.data.tokenizer import MODEL, VOCAB, train_tokenizer
from glam.errors import UserError

RNG = random.Random(0)
SAMPLE = [
    " ".join(
        RNG.choice(["the", "cat", "dogs", "birding", "of", "was", "Ünïcode"]) for _ in range(30)
    )
    for _ in range(200)
]
LIKE = {
    "ours": {"normalization_rule_name": "identity", "add_dummy_prefix": False,
             "remove_extra_whitespaces": False},
    "a Llama": {"model_type": "bpe", "normalization_rule_name": "identity"},
    "a Gemma": {"model_type": "bpe", "normalization_rule_name": "identity",
                "add_dummy_prefix": False, "user_defined_symbols": ["\n\n", "<start_of_turn>"]},
}  # fmt: skip
TEXT = st.text(st.sampled_from("  the cat\n\nÜé日\u2581\u2585<s>\t") | st.characters(codec="utf-8"))


def trained(folder: Path, sample: list[str] = SAMPLE, **options: Any) -> Path:
    """A model of SentencePiece's own trainer, with its own defaults."""
    folder.mkdir(exist_ok=True)
    given = {"vocab_size": 280, "byte_fallback": True, "minloglevel": 3, "num_threads": 1}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sample), model_prefix=str(folder / "m"), **{**given, **options}
    )
    return folder / "m.model"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    made: dict[str, Tokenizer] = {}
    for number, (name, options) in enumerate(LIKE.items()):
        folder = tmp_path_factory.mktemp(f"like{number}")
        import_tokenizer(trained(folder / "given", **options), folder)
        made[name] = Tokenizer(folder)
    return made


@pytest.mark.parametrize("name", LIKE)
@given(TEXT)
def test_text_comes_back_from_a_given_model_and_its_bytes_add_up(
    models: dict[str, Tokenizer], name: str, text: str
) -> None:
    tokens = models[name].encode(text)
    assert models[name].decode(tokens) == text
    assert models[name].num_bytes[tokens].sum() == len(text.encode())


def test_what_a_model_would_change_of_white_space_is_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import_tokenizer(trained(tmp_path / "given", model_type="bpe",
                             normalization_rule_name="identity"), tmp_path)  # fmt: skip
    (line,) = caplog.messages
    assert line.endswith(
        "so that text comes back: a space before every text, several spaces as one"
    )
    caplog.clear()
    import_tokenizer(tmp_path / MODEL, tmp_path)  # which has been changed
    assert caplog.messages == []


def test_a_tokenizer_that_was_trained_here_is_the_same_when_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    train_tokenizer(tmp_path / "run", SAMPLE, 280)
    for named in (tmp_path / "run", tmp_path / "run" / MODEL):
        import_tokenizer(given_model(str(named)), tmp_path)
        assert Tokenizer(tmp_path).fingerprint == Tokenizer(tmp_path / "run").fingerprint
        assert (tmp_path / VOCAB).read_bytes() == (tmp_path / "run" / VOCAB).read_bytes()


def changed(file: Path, change: Callable[[Any], None]) -> Path:
    """A model with something of it changed."""
    library: Any = sentencepiece_model_pb2
    model = library.ModelProto()
    model.ParseFromString(file.read_bytes())
    change(model)
    file.write_bytes(model.SerializeToString())
    return file


def cuts_as_bpe(model: Any) -> None:
    model.trainer_spec.model_type = model.trainer_spec.BPE


def lets_pieces_rest(model: Any) -> None:
    for piece in model.pieces[-9:]:
        piece.type = piece.UNUSED


@pytest.mark.parametrize("change", [cuts_as_bpe, lets_pieces_rest])
def test_models_of_one_vocabulary_that_cut_text_otherwise_are_two(
    change: Callable[[Any], None], tmp_path: Path
) -> None:
    """Else the tokens of one would be found in the cache for the other."""
    found: list[Tokenizer] = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        file = trained(tmp_path / "given", **LIKE["ours"])
        import_tokenizer(changed(file, change) if found else file, tmp_path / name)
        found.append(Tokenizer(tmp_path / name))
    assert found[0].encode(SAMPLE[0]) != found[1].encode(SAMPLE[0])
    assert found[0].fingerprint != found[1].fingerprint
    assert (tmp_path / "one" / VOCAB).read_bytes() == (tmp_path / "other" / VOCAB).read_bytes()


def has_a_piece_twice(model: Any) -> None:
    model.pieces[-1].piece = model.pieces[-2].piece


def has_no_score(model: Any) -> None:
    model.pieces[-1].score = float("nan")


def has_no_signs(model: Any) -> None:
    for piece in model.pieces[1:3]:
        piece.type = piece.NORMAL


@pytest.mark.parametrize("change", [has_a_piece_twice, has_no_score, has_no_signs])
def test_a_damaged_model_is_refused_by_the_name_it_was_given(
    change: Callable[[Any], None], tmp_path: Path
) -> None:
    file = changed(trained(tmp_path / "given", **LIKE["ours"]), change)
    with pytest.raises(UserError, match=rf"^data.tokenizer={file} .*; name another, or leave"):
        import_tokenizer(file, tmp_path)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"normalization_rule_name": "nmt_nfkc"}, "normalises text .nmt_nfkc.*not come back"),
        ({"normalization_rule_name": "identity", "byte_fallback": False, "vocab_size": 28},
         "has no pieces for single bytes"),
        ({"normalization_rule_name": "identity", "treat_whitespace_as_suffix": True},
         "writes white space in a way of its own"),
        ({"normalization_rule_name": "identity", "bos_id": -1}, "no pieces that begin and end"),
        ({"normalization_rule_name": "identity", "user_defined_symbols": ["x" * 300]},
         "has a piece of more than 255 bytes"),
    ],
)  # fmt: skip
def test_a_model_from_which_text_would_not_come_back_is_refused(
    options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=rf"^data.tokenizer=.*{reason}.*; name another, or leave"):
        import_tokenizer(trained(tmp_path / "given", **options), tmp_path)
    assert not (tmp_path / MODEL).exists()


def test_a_model_without_a_piece_for_a_space_is_refused(tmp_path: Path) -> None:
    """It would give three bytes for one."""
    file = trained(tmp_path / "given", ["日本語のテキスト"], **LIKE["ours"], vocab_size=267)
    with pytest.raises(UserError, match=r"has no piece for a space; name another"):
        import_tokenizer(file, tmp_path)


@pytest.mark.parametrize("content", [b"", b"no model at all", bytes(range(256)) * 9, b"\x0a\x02"])
def test_what_is_no_model_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.model").write_bytes(content)
    with pytest.raises(UserError, match=r"^data.tokenizer=.*; name another") as refusal:
        import_tokenizer(tmp_path / "m.model", tmp_path)
    assert "\n" not in str(refusal.value)


def test_a_model_that_cannot_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / MODEL).touch()
    monkeypatch.setattr("os.access", lambda *_: False)  # root may read whatever its mode is
    with pytest.raises(UserError, match=r"^data.tokenizer=.*cannot be read; make it readable"):
        given_model(str(tmp_path))


def test_a_place_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no tokenizer.model; name a SentencePiece"):
        given_model(str(tmp_path))
    with pytest.raises(UserError, match=r"is not there; name a SentencePiece"):
        given_model(str(tmp_path / "nowhere"))


def test_text_is_prepared_with_a_tokenizer_that_is_given(
    data: DataConfig, prepared: PreparedData, cache: Path, tmp_path: Path
) -> None:
    data = DataConfig(corpus=data.corpus, filter=FilterConfig(name="none"))
    size = 280
    data.tokenizer = str(trained(tmp_path / "given", **LIKE["a Llama"]))
    found = prepare(data, size, cache)
    assert found.tokenizer.vocab_size == size
    assert found.tokenizer.fingerprint != prepared.tokenizer.fingerprint
    assert found.held_out.keys() == prepared.held_out.keys()
    with pytest.raises(UserError, match=r"^model.vocab_size=400 but .*; set model.vocab_size=280$"):
        prepare(data, 400, cache)
    # A run that goes on has its own.
    assert prepare(data, 400, cache, prepared.tokenizer).tokenizer is prepared.tokenizer
