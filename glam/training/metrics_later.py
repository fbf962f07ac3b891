"""Lightning, without what torchmetrics brings along.

Lightning takes two classes of torchmetrics, whose `__init__` imports every metric there is and,
for those, SciPy's signals and statistics and transformers where it is installed: a third of what
a run takes to start. Here that `__init__` waits until something else is asked of torchmetrics.
"""

import importlib.machinery
import importlib.util
import logging
import sys
from importlib.metadata import version
from types import ModuleType
from typing import Any

NAME = "torchmetrics"


def put_off_metrics() -> None:
    """Before Lightning is imported; does nothing after it, or where torchmetrics has changed."""
    spec = importlib.util.find_spec(NAME) if NAME not in sys.modules else None
    if spec is None or spec.loader is None:
        return
    package = importlib.util.module_from_spec(spec)
    vars(package).update(_logger=logging.getLogger(NAME), __version__=version(NAME))
    sys.modules[NAME] = package
    try:
        importlib.import_module(f"{NAME}.utilities")
        classes = {"Metric": "metric", "MetricCollection": "collections"}
        for name, module in classes.items():
            found = importlib.import_module(f"{NAME}.{module}")
            setattr(package, name, getattr(found, name))
    except (ImportError, AttributeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
            del sys.modules[name]
        return
    _import_when_asked(package, spec)


def _import_when_asked(package: ModuleType, spec: importlib.machinery.ModuleSpec) -> None:
    def __getattr__(name: str) -> Any:  # noqa: N807 - Python calls it for what a module lacks
        if name.startswith("__") or "__getattr__" not in vars(package):
            raise AttributeError(f"module {NAME!r} has no attribute {name!r}")
        del vars(package)["__getattr__"]
        assert spec.loader is not None
        spec.loader.exec_module(package)
        return getattr(package, name)

    vars(package)["__getattr__"] = __getattr__
