from pathlib import Path

import pytest

from glam.data.domains import Domains


def domains(*names: str) -> list[str]:
    paths = [Path("/top", name) for name in names]
    found = Domains([paths])
    return [found.of(str(path)) for path in paths]


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("web/posts.jsonl", "posts"),
        ("web/posts.2019.jsonl", "posts.2019"),
        ("web/news-20190101.jsonl.zst", "news-20190101"),
        ("web/genre1.csv", "genre1"),
        ("book/1.txt", "book"),
        ("data/1.txt", "data"),
        ("wiki/part-00001.jsonl", "wiki"),
        ("wiki/part-00000-1a2b-c000.zst.parquet", "wiki"),
        ("wiki/data/train-00001-of-00100.parquet", "wiki"),
        ("wiki/train-00001-of-00100-0123456789abcdef.parquet", "wiki"),
        ("x/c4-train.00012-of-01024.json.gz", "c4-train"),
        ("x/pile_00012.jsonl.zst", "pile"),
        ("x/pile_0012.jsonl.zst", "pile"),
        ("x/shard3.json", "x"),
        ("wet/CC-MAIN-20240220211055-20240221001055-00042.warc.wet.gz", "CC-MAIN"),
        ("a b/c & d.jsonl", "c_d"),
    ],
)
def test_a_name_or_its_folder_tells_the_domain(name, domain):
    assert domains(name) == [domain]


def test_thousands_of_shards_are_one_domain():
    names = [f"{kind}-{n:05d}-of-03000.jsonl" for kind in ("a", "b") for n in range(3000)]
    assert set(domains(*names)) == {"a", "b"}


def test_a_folder_of_many_names_is_a_domain():
    names = [f"pages/{n}x.json" for n in range(40)]
    assert set(domains(*names)) == {"pages"}
    assert len(set(domains(*names[:16]))) == 16
    # .jsonl, of which each has been a domain, stays one as long as a batch can tell them apart.
    assert len(set(domains(*(f"{n}x.jsonl" for n in range(255))))) == 255
    assert set(domains(*(f"{n}x.jsonl" for n in range(256)))) == {"top"}


def test_too_many_folders_go_by_those_that_they_lie_in():
    names = [f"{year}/{day:03d}x/a.txt" for year in (2019, 2020) for day in range(365)]
    assert set(domains(*names, "other/b.txt")) == {"2019", "2020", "other"}


def test_domains_of_two_groups_count_twice():
    paths = [Path(f"/top/{n}x.jsonl") for n in range(200)]
    assert {Domains([paths, paths]).of(str(path)) for path in paths} == {"top"}
