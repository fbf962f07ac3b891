import pytest

from glam.data.formats.bad import check_share
from glam.errors import UserError


def test_more_bad_records_than_allowed_are_refused_with_their_kinds_and_the_share_that_fits():
    counts = {"not JSON": 2, "empty": 90, "not UTF-8": 3}
    with pytest.raises(UserError) as refusal:
        check_share("posts", 400, counts, "posts.jsonl:7", 0.01)
    assert str(refusal.value) == (
        "data.corpus.max_bad_share=0.01 but 5 of 400 records of posts are no documents (1.2 %: "
        "3 not UTF-8, 2 not JSON; the first is posts.jsonl:7); mend them, or set "
        "data.corpus.max_bad_share=0.02"
    )
    check_share("posts", 400, counts, "posts.jsonl:7", 0.02)


def test_where_no_record_is_good_no_share_is_a_way_out():
    with pytest.raises(
        UserError, match=r"9 of 9 records of posts .*; mend them, or leave them out"
    ):
        check_share("posts", 9, {"not UTF-8": 9}, "posts.jsonl:1", 0.01)


def test_empty_records_are_no_fault():
    check_share("posts", 10, {"empty": 9}, "posts.jsonl:1", 0.0)
