"""GLaM experiments: `python run.py --help`."""

import os
import sys

from glam.cli import INTERRUPTED, main

if __name__ == "__main__":
    status = main(sys.argv[1:])
    if status == INTERRUPTED:  # at once: a thread that is in SentencePiece hears no Ctrl-C
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
