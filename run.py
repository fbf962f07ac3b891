"""GLaM experiments: `python run.py --help`."""

import os
import sys

from glam.errors import wrong_interpreter

try:
    if sys.version_info < (3, 11):  # noqa: UP036 - an older one gets here before pip's check
        raise ModuleNotFoundError("Python 3.11 or newer is needed")
    from glam.cli import STOPPED, main
    from glam.machine.processes import under_torchrun
except ModuleNotFoundError as error:
    print(f"error: {wrong_interpreter(error)}", file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    status = main(sys.argv[1:])
    # Without waiting for threads: one in SentencePiece hears no Ctrl-C, and gloo's abort the
    # interpreter now and then when several processes train together.
    if status > STOPPED or under_torchrun():
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
