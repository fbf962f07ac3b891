"""Tasks in processes: each done at least once, whatever happens to a process."""

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from glam.data.executor import threads
from glam.data.executor.pool import LocalExecutor, run_in_processes
from glam.errors import JobFailedError, UserError
from glam.progress import Bar

sys.path.insert(0, str(Path(__file__).parent))  # for the processes too

import executor_tasks


def run(tasks, workers=2, sizes=None) -> int:
    sizes = sizes or [10] * len(tasks)
    with Bar("test", sum(sizes)) as running:
        LocalExecutor(workers).run("stage", tasks, sizes, running)
    return running.done


def test_every_task_is_done_in_a_process_beside_this_one(tmp_path):
    files = [tmp_path / str(i) for i in range(5)]
    assert run([partial(executor_tasks.write, file) for file in files]) == 50
    found = [file.read_text().split() for file in files]
    assert str(os.getpid()) not in {process for process, _ in found}
    assert 1 <= len({process for process, _ in found}) <= 2
    assert {threads for _, threads in found} == {"1"}


def test_one_worker_is_this_process(tmp_path):
    assert (
        run(
            [
                partial(executor_tasks.write, tmp_path / "a"),
                partial(executor_tasks.write, tmp_path / "b"),
            ],
            1,
        )
        == 20
    )
    assert (tmp_path / "a").read_text() == f"{os.getpid()} {threads()}"


def test_the_task_of_a_killed_process_is_done_again_and_counted_once(tmp_path):
    others = [partial(executor_tasks.write, tmp_path / str(i)) for i in range(3)]
    assert run([partial(executor_tasks.killed_at_first, tmp_path / "killed", 2), *others]) == 40
    assert (tmp_path / "killed").read_text() == "begun\n" * 3
    assert all((tmp_path / str(i)).exists() for i in range(3))


def test_a_task_that_is_killed_every_time_is_named_with_the_way_out(tmp_path):
    others = [partial(executor_tasks.write, tmp_path / str(i)) for i in range(3)]
    with pytest.raises(JobFailedError, match=r"task 0 of 4 ended 3 times .*SIGKILL.*data.workers"):
        run([partial(executor_tasks.killed_at_first, tmp_path / "killed", 99), *others])


def test_what_a_task_refuses_is_refused_here_and_ends_the_others(tmp_path):
    waiting = partial(executor_tasks.wait_for_ever, tmp_path / "process")
    with pytest.raises(UserError, match=r"^data.corpus: nothing there$"):
        run([waiting, executor_tasks.refuse])
    if (tmp_path / "process").exists():
        assert not psutil.pid_exists(int((tmp_path / "process").read_text()))


def test_an_error_that_cannot_travel_is_told_in_words(tmp_path):
    with pytest.raises(RuntimeError, match="ValueError: of a kind"):
        run([executor_tasks.unpicklable, partial(executor_tasks.write, tmp_path / "a")])


def test_an_interrupt_ends_the_processes(tmp_path):
    path = tmp_path / "process"

    def interrupt() -> None:
        while not path.exists() or not path.read_text():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with Bar("test", 10) as running, pytest.raises(KeyboardInterrupt):
        run_in_processes("stage", [partial(executor_tasks.wait_for_ever, path)], [10], running, 1)
    assert not psutil.pid_exists(int(path.read_text()))


def test_a_script_that_starts_processes_is_not_run_again_in_them(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from functools import partial
from pathlib import Path
import executor_tasks
from glam.data.executor.pool import LocalExecutor
from glam.progress import Bar
print("begun", flush=True)
with Bar("test", 2) as running:
    tasks = [partial(executor_tasks.write, Path({str(tmp_path)!r}) / name) for name in "ab"]
    LocalExecutor(2).run("stage", tasks, [1, 1], running)
"""
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("begun\n", 0)
    assert (tmp_path / "a").exists()
    assert (tmp_path / "b").exists()
