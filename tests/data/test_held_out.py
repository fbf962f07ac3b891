import numpy as np
import pytest

from glam.data import PreparedData, held_out, held_out_bytes

LENGTH = 48


def test_all_of_a_domain_is_every_held_out_document_once(prepared: PreparedData) -> None:
    for domain, encoded in prepared.held_out.items():
        batches = list(held_out(prepared, domain, LENGTH, 4))
        tokens = np.concatenate([batch.tokens[batch.mask] for batch in batches])
        np.testing.assert_array_equal(tokens, encoded.tokens)
        assert all(batch.tokens.shape == (4, LENGTH) for batch in batches)


def test_targets_and_segments_follow_documents(prepared: PreparedData) -> None:
    domain, encoded = next(iter(prepared.held_out.items()))
    slow = [
        (token, target, number)
        for number in range(len(encoded))
        for token, target in zip(
            encoded.document(number).tolist(),
            [*encoded.document(number)[1:].tolist(), prepared.tokenizer.eos],
            strict=True,
        )
    ]
    at = 0
    for batch in held_out(prepared, domain, LENGTH, 3):
        for row in range(3):
            count = int(batch.mask[row].sum())
            assert batch.mask[row, :count].all()
            mine = slow[at : at + count]
            assert batch.tokens[row, :count].tolist() == [token for token, _, _ in mine]
            assert batch.targets[row, :count].tolist() == [target for _, target, _ in mine]
            numbers = [number - mine[0][2] for *_, number in mine] if mine else []
            assert batch.segments[row, :count].tolist() == numbers
            # Padding attends to no document.
            assert set(batch.segments[row, count:].tolist()).isdisjoint(numbers)
            at += count
    assert at == len(slow)


def test_bytes_are_exactly_those_of_the_text(prepared: PreparedData) -> None:
    for domain, encoded in prepared.held_out.items():
        texts = [
            prepared.tokenizer.decode(encoded.document(i)[1:].tolist()) for i in range(len(encoded))
        ]
        total = sum(len(text.encode()) for text in texts)
        assert held_out_bytes(prepared, domain, LENGTH) == total
        # However the tokens fall into rows, and wherever a row cuts a character.
        assert held_out_bytes(prepared, domain, 7) == total


@pytest.mark.parametrize("limit", [LENGTH, 3 * LENGTH + 5, 10**9])
def test_a_limit_takes_rows_from_all_over_and_counts_their_bytes(
    prepared: PreparedData, limit: int
) -> None:
    domain, encoded = max(prepared.held_out.items(), key=lambda item: len(item[1].tokens))
    batches = list(held_out(prepared, domain, LENGTH, 4, limit))
    covered = sum(int(batch.mask.sum()) for batch in batches)
    assert covered <= min(limit, len(encoded.tokens))
    assert covered > min(limit, len(encoded.tokens)) - 2 * LENGTH
    slow = sum(
        int(prepared.tokenizer.num_bytes[batch.targets[batch.mask]].sum()) for batch in batches
    )
    assert held_out_bytes(prepared, domain, LENGTH, limit) == slow
    if limit == 3 * LENGTH + 5:
        rows = [tuple(r) for b in batches for r, m in zip(b.tokens, b.mask, strict=True) if m.any()]
        every = [tuple(r) for b in held_out(prepared, domain, LENGTH, 4) for r in b.tokens]
        places = [every.index(row) for row in rows]
        assert places == [i * (len(encoded.tokens) // LENGTH + 1) // 3 for i in range(3)]
