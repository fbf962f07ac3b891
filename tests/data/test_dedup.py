"""Copies: which documents are, and which one stays."""

import random
from itertools import chain

import numpy as np
import pytest

from glam.config import DedupConfig
from glam.data import dedup as deduplication
from glam.data import spill
from glam.data.dedup import EXACT, NEAR, STAYS, Signed, write_copies
from glam.data.hashing import document_hash
from glam.data.scan import scan

DEDUP = DedupConfig()


def words(seed, count=120):
    return [f"w{random.Random(f'{seed}/{i}').randint(0, 5000)}" for i in range(count)]


def changed(text, *places):
    """The text with other words at some places."""
    found = text.split()
    for place in places:
        found[place] = f"x{place}"
    return " ".join(found)


def copies(folder, *shards, dedup=DEDUP):
    """What becomes of shards `(priority, texts)`; each a list."""
    folder.mkdir()
    signed = []
    for index, (priority, texts) in enumerate(shards):
        np.save(
            folder / f"hashes{index}.npy", np.array([document_hash(t) for t in texts], np.uint64)
        )
        np.save(folder / f"bands{index}.npy", scan(texts, dedup, None).bands)
        signed.append(Signed(folder / f"hashes{index}.npy", folder / f"bands{index}.npy", priority))
    out = folder / "out"
    out.mkdir()
    write_copies(out, signed, dedup)
    assert sorted(path.name for path in out.iterdir()) == [f"{i}.npy" for i in range(len(shards))]
    found = [np.load(out / f"{index}.npy") for index in range(len(shards))]
    assert all(each.dtype == np.uint8 for each in found)
    return [each.tolist() for each in found]


A, B, C = (" ".join(words(name)) for name in "abc")


def test_of_equal_and_of_nearly_equal_documents_the_first_stays(tmp_path):
    texts = [A, B, A.upper() + " ", changed(A, 7), C, changed(B, 60, 61)]
    assert copies(tmp_path / "a", (2, texts)) == [[STAYS, STAYS, EXACT, NEAR, STAYS, NEAR]]


def test_held_out_text_stays_before_curated_before_the_pools(tmp_path):
    pool, curated, held_out = (2, [A, B, C]), (1, [changed(A, 3), B]), (0, [A, changed(A, 50)])
    assert copies(tmp_path / "a", pool, curated, held_out) == [
        [EXACT, EXACT, STAYS], [NEAR, STAYS], [STAYS, NEAR],
    ]  # fmt: skip


def test_a_copy_of_a_copy_is_one_however_far_it_has_come(tmp_path):
    steps = [A]
    for step in range(9):
        steps.append(changed(steps[-1], 10 * step, 10 * step + 1, 10 * step + 2))
    random.Random(1).shuffle(steps)
    assert copies(tmp_path / "a", (2, [B, *steps])) == [[STAYS, STAYS] + 9 * [NEAR]]


def test_what_shares_less_than_the_threshold_stays(tmp_path):
    half = " ".join(words("a")[:80] + words("d")[:40])  # of A's 116 5-grams 76, of 156 in all
    for threshold, kind in ((0.6, STAYS), (0.4, NEAR)):
        dedup = DedupConfig(bands=56, rows=2, threshold=threshold)
        folder = tmp_path / str(threshold)
        assert copies(folder, (2, [A, half]), dedup=dedup) == [[STAYS, kind]]


def test_documents_without_a_word_are_no_near_copies(tmp_path):
    assert copies(tmp_path / "a", (2, ["!", "?", "!", "…"])) == [[STAYS, STAYS, EXACT, STAYS]]


def test_without_bands_only_equal_documents_are_copies(tmp_path):
    shards = [np.array([5, 6, 5], np.uint64), np.array([6, 7], np.uint64)]
    for index, hashes in enumerate(shards):
        np.save(tmp_path / f"h{index}.npy", hashes)
    (tmp_path / "out").mkdir()
    signed = [Signed(tmp_path / f"h{index}.npy", None, 2) for index in (0, 1)]
    write_copies(tmp_path / "out", signed, DEDUP)
    assert np.load(tmp_path / "out/0.npy").tolist() == [STAYS, STAYS, EXACT]
    assert np.load(tmp_path / "out/1.npy").tolist() == [EXACT, STAYS]


def test_of_no_document_at_all_none_is_a_copy(tmp_path):
    assert copies(tmp_path / "a", (2, [])) == [[]]


def many(seed):
    """Texts of which many are copies, of some several times over."""
    draw, texts = random.Random(seed), [A]
    for index in range(150):
        old = draw.choice(texts)
        texts.append(draw.choice(
            [old, old.upper(), changed(old, draw.randrange(100)), " ".join(words(index))]
        ))  # fmt: skip
    return texts


def slow_copies(texts):
    """By every pair: equal ones by their hashes, near ones by their signatures' equal bytes."""
    hashes = [document_hash(text) for text in texts]
    found = [EXACT if name in hashes[:i] else STAYS for i, name in enumerate(hashes)]
    signatures = scan(texts, DEDUP, None).bands.view(np.uint8)
    sets = {i: {i} for i, kind in enumerate(found) if kind == STAYS}
    for i in sets:
        for j in sets:
            same = (signatures[i] == signatures[j]).mean()
            if i < j and (same - 1 / 256) / (255 / 256) >= DEDUP.threshold:
                joined = sets[i] | sets[j]
                for each in joined:
                    sets[each] = joined
    return [NEAR if i in sets and i != min(sets[i]) else kind for i, kind in enumerate(found)]


@pytest.mark.parametrize("seed", [0, 1])
def test_pieces_of_any_size_give_what_every_pair_gives(tmp_path, monkeypatch, seed):
    texts = many(seed)
    expected = slow_copies(texts)
    assert set(expected) == {STAYS, EXACT, NEAR}
    assert copies(tmp_path / "one", (2, texts)) == [expected]
    shards = [(2, texts[start : start + 40]) for start in range(0, len(texts), 40)]
    assert [*chain(*copies(tmp_path / "shards", *shards))] == expected
    monkeypatch.setattr(spill, "RECORDS", 50)
    monkeypatch.setattr(deduplication, "_DOCUMENTS", 11)
    monkeypatch.setattr(deduplication, "_PAIRS", 5)
    assert [*chain(*copies(tmp_path / "small", *shards))] == expected


def test_pairs_grow_as_documents_do_where_all_are_alike(tmp_path, monkeypatch):
    compared = []
    alike = deduplication._Signatures.alike

    def counted(self, first, second):
        compared.append(len(first))
        return alike(self, first, second)

    monkeypatch.setattr(deduplication._Signatures, "alike", counted)
    texts = [f"{A} ({index}" + ")" * index for index in range(300)]  # the same but for a word
    assert copies(tmp_path / "a", (2, texts)) == [[STAYS] + 299 * [NEAR]]
    assert sum(compared) <= 2 * 7 * 300
    assert max(compared) <= deduplication._PAIRS
