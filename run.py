"""GLaM experiments: `python run.py --help`."""

import sys

from glam.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
