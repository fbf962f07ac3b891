"""The choices of one kind (optimizers, schedules, …) by name. A class registers itself where it is
written, and nothing else lists it: command line, help, schema, checks and plans read the registry.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from glam.errors import one_of

T = TypeVar("T")
K = TypeVar("K")


class Registry(Generic[T]):
    """Classes of one kind by their `name`. Iterates over the names, in alphabetical order."""

    def __init__(self, key: str, attribute: str = "name") -> None:
        """`key` is the configuration key that chooses one, as it is typed; `attribute` is where a
        class has its name."""
        self.key, self._attribute = key, attribute
        self._classes: dict[str, type[T]] = {}

    def register(self, kind: type[K]) -> type[K]:
        """Class decorator. Raises ValueError for a class without a name, or with one that is taken
        by another class."""
        name = getattr(kind, self._attribute, None)
        if not isinstance(name, str):
            raise ValueError(
                f"{kind.__name__} has no name for {self.key}=…; give it {self._attribute} = '…'"
            )
        taken = self._classes.get(name)
        if taken is not None and taken.__qualname__ != kind.__qualname__:
            raise ValueError(f"{self.key}={name} is both {taken.__name__} and {kind.__name__}")
        self._classes[name] = kind  # type: ignore[assignment]
        return kind

    def __getitem__(self, name: str) -> type[T]:
        """The class of that name. Raises UserError, with the nearest name, where there is none."""
        one_of(self.key, name, self)
        return self._classes[name]

    def __contains__(self, name: object) -> bool:
        return name in self._classes

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._classes))

    def __len__(self) -> int:
        return len(self._classes)

    def where(self, holds: Callable[[type[T]], bool]) -> list[str]:
        """Names of the classes for which `holds`, for the way out of a refusal."""
        return [name for name in self if holds(self._classes[name])]


def import_modules(package: str, path: Iterable[str]) -> None:
    """Import every module of a package's folder, so that its classes register themselves: a new
    file is known without an edit elsewhere. Called with `__name__` and `__path__`."""
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")
