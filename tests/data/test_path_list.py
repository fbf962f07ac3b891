import pickle
import tracemalloc
from pathlib import Path

import pytest

from glam.data.path_list import PathList, strings

PATHS = ["/a/b/c.txt", "/a/b/d.txt", "/a/e.txt", "/f.txt", "/a/\udcff.txt"]


def test_it_is_a_sequence_of_paths():
    paths = PathList(PATHS)
    assert list(paths) == [paths[i] for i in range(len(PATHS))] == list(map(Path, PATHS))
    assert list(strings(paths)) == list(strings(list(map(Path, PATHS)))) == PATHS
    assert paths[-1] == Path(PATHS[-1])
    assert paths[1:3] == (Path(PATHS[1]), Path(PATHS[2]))
    assert pickle.loads(pickle.dumps(paths)) == paths
    assert not PathList()
    with pytest.raises(IndexError):
        paths[len(PATHS)]


def test_a_path_takes_little_more_than_its_name():
    tracemalloc.start()
    paths = PathList(f"/some/folder/{number:06d}.txt" for number in range(20_000))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(paths) == 20_000
    assert size < 35 * 20_000
