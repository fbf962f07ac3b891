"""The models of `tiny_models.py`, for the tests beside it."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
