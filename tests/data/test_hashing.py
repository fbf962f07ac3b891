from pathlib import Path

import numpy as np
import pytest

from glam.data import hashing
from glam.data.hashing import digest, document_hash, file_digest, text_hash, uniform

HASHES = np.array([text_hash(f"page {i}") for i in range(20_000)], np.uint64)


def test_draws_are_uniform() -> None:
    draws = uniform(HASHES, 0, "pareto")
    counts, _ = np.histogram(draws, bins=20, range=(0, 1))
    assert counts.sum() == len(HASHES)
    # Chi-square with 19 degrees of freedom: above 43.8 once in a thousand.
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8


def test_a_draw_depends_on_nothing_but_hash_seed_and_purpose() -> None:
    order = np.random.default_rng(0).permutation(len(HASHES))
    draws = uniform(HASHES, 0, "pareto")
    np.testing.assert_array_equal(uniform(HASHES[order], 0, "pareto"), draws[order])
    for other in (uniform(HASHES, 1, "pareto"), uniform(HASHES, 0, "held out")):
        assert abs(np.corrcoef(draws, other)[0, 1]) < 0.03


def test_documents_that_differ_in_case_and_space_are_one() -> None:
    assert document_hash("We the\n People") == document_hash("we  the people")
    assert document_hash("we the people") != document_hash("we the peoples")


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})


def test_a_sampled_hash_of_a_large_file_notices_a_changed_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "_CHUNK", 16)
    monkeypatch.setattr(hashing, "_WHOLE", 100)
    path = tmp_path / "large"
    path.write_bytes(b"x" * 5000)
    before = file_digest(path, sampled=True)
    path.write_bytes(b"x" * 4999 + b"y")
    assert file_digest(path, sampled=True) != before
