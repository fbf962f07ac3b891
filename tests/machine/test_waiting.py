import signal
import subprocess
import sys

import pytest

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


IN_C = """
import hashlib, os, threading
from glam.cli.signals import stoppable
from glam.machine import waiting
waiting.SECONDS_TO_HEAR = 0.2
with stoppable(), waiting.limited("Godot", "start him"):
    threading.Timer(0.3, os.kill, [os.getpid(), {number}]).start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", (1 << 31) - 1)  # minutes, without a word of Python
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_who_waits_in_c_code_stops_when_asked(number):
    line = [sys.executable, "-c", IN_C.format(number=int(number))]
    assert subprocess.run(line, timeout=60).returncode == 128 + number
