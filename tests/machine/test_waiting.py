import subprocess
import sys

from glam.machine.waiting import limited

WAITS = """
import time
from glam import log
from glam.machine.waiting import limited
log.configure()
with limited("Godot at 10.0.0.1:29500", "start him", 0.2):
    time.sleep(600)
"""


def test_who_waits_too_long_says_for_what_and_ends():
    ended = subprocess.run([sys.executable, "-c", WAITS], capture_output=True, text=True)
    said = ended.stderr.splitlines()[-1]
    assert said == "error: waited 0.2 s for Godot at 10.0.0.1:29500; start him"
    assert ended.returncode == 1


def test_who_comes_in_time_ends_the_waiting():
    with limited("nobody", "nothing", 600) as nothing:
        assert nothing is None
