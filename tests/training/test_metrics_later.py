"""Lightning starts without torchmetrics' other metrics, which are there when they are asked for."""

import subprocess
import sys

from glam.training.metrics_later import put_off_metrics

BEFORE = ("torchmetrics.functional", "torchmetrics.classification", "scipy.signal", "transformers")
START = f"""
import sys
import glam.training
import torch
print(*[name for name in {BEFORE} if name in sys.modules])
from lightning.pytorch.core.module import Metric
from torchmetrics import MeanMetric
from torchmetrics.functional import mean_squared_error
mean = MeanMetric()
mean.update(torch.tensor([1.0, 2.0]))
print(isinstance(mean, Metric), mean.compute().item())
print(mean_squared_error(torch.tensor([1.0]), torch.tensor([3.0])).item())
"""


def test_a_run_starts_without_metrics_that_can_be_had_later():
    done = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["", "True 1.5", "4.0"], done.stderr


def test_a_torchmetrics_of_another_form_is_imported_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "torchmetrics").mkdir()
    (tmp_path / "torchmetrics" / "__init__.py").write_text("class Metric: ...\n")
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchmetrics"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    put_off_metrics()
    assert "torchmetrics" not in sys.modules
