"""What the Makefile tells uv of pip's configuration, so that both install the same wheels."""

import os
import subprocess

from glam.config import ROOT


def test_uv_looks_where_pip_is_configured_to_look(tmp_path):
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://a.test/simple\ntimeout = 5\n"
        "extra-index-url =\n    https://b.test/simple\n    https://c.test/simple\n"
        "[install]\nconstraint = /d/constraints.txt\n"
    )
    others = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment = {**others, "PIP_CONFIG_FILE": str(config), "PIP_FIND_LINKS": "/e /f"}
    command = ["make", "--silent", "uv-options"]
    told = subprocess.run(
        command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    assert {
        "--index-url https://a.test/simple",
        "--extra-index-url https://b.test/simple",
        "--extra-index-url https://c.test/simple",
        "--constraint /d/constraints.txt",
        "--find-links /e",
        "--find-links /f",
    } <= set(told.stdout.splitlines())
    assert "timeout" not in told.stdout
