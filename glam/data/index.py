"""What was read: every shard with its domain and size, and every bad record by kind."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glam.config import Role, Source
from glam.data.formats.bad import check_share, in_words
from glam.errors import UserError
from glam.log import log

MOST_DOMAINS = 255  # each slot of a batch names its domain in a byte
_SUFFIX = {
    "curated": "-curated",
    "unfiltered": "-unfiltered",
    "pool": "-web",
    "held_out": "-held-out",
}


@dataclass(frozen=True, kw_only=True)
class Domain:
    """Text of one kind, in tables and columns: of a source, or of those of its records that name a
    domain."""

    name: str
    role: Role
    component: str
    source: int  # the first that it is from


@dataclass(frozen=True, kw_only=True)
class ShardEntry:
    """A shard and what names it: its unit, and its number there."""

    unit: int
    number: int
    key: str  # of the unit
    domain: int  # an index into `Index.domains`
    documents: int
    characters: int
    bytes: int  # of UTF-8

    @property
    def inputs(self) -> list[Any]:
        return [self.key, self.number]


@dataclass(frozen=True, kw_only=True)
class Index:
    """All shards in the order in which they were read; and by source, what was set aside."""

    domains: list[Domain]
    shards: list[ShardEntry]
    records: list[int]  # of each source, bad ones among them
    bad: list[dict[str, int]] = field(default_factory=list[dict[str, int]])

    def of_domain(self, domain: int) -> list[int]:
        """Its shards, by their places in `shards`."""
        return [place for place, shard in enumerate(self.shards) if shard.domain == domain]

    def of_role(self, role: Role) -> list[int]:
        """Shards of all domains of a role, by their places."""
        return [
            place
            for place, shard in enumerate(self.shards)
            if self.domains[shard.domain].role == role
        ]


def write_index(path: Path, units: Sequence[tuple[int, str, Path]]) -> None:
    """Gather what was read of units `(source, key, folder)`."""
    lines = (
        json.dumps({"source": source, "key": key, **json.loads((folder / "unit.json").read_text())})
        for source, key, folder in units
    )
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


def read_index(path: Path, sources: Sequence[Source]) -> Index:
    """What `write_index` wrote. Raises UserError for a source without text, for one of which too
    many records are bad, and for too many domains."""
    units = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    domains, numbers = _domains(sources, units)
    shards = [
        ShardEntry(
            unit=place,
            number=number,
            key=unit["key"],
            domain=numbers[unit["source"], shard.pop("domain")],
            **shard,
        )
        for place, unit in enumerate(units)
        for number, shard in enumerate(unit["shards"])
    ]
    bad = [_summed(units, number, "bad") for number in range(len(sources))]
    records = [0] * len(sources)
    for unit in units:
        records[unit["source"]] += unit["records"]
    for number, source in enumerate(sources):
        mine = (unit for unit in units if unit["source"] == number)
        first = next((unit["first_bad"] for unit in mine if "first_bad" in unit), "")
        check_share(source.name, records[number], bad[number], first, source.max_bad_share)
    return Index(domains=domains, shards=shards, records=records, bad=bad)


def say_what_was_read(path: Path, sources: Sequence[Source]) -> None:
    """A line for each source of which characters were replaced."""
    units = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for number, source in enumerate(sources):
        replaced = _summed(units, number, "replaced")
        if words := ", ".join(f"{count:,} {what}" for what, count in replaced.items()):
            log.warning(f"{source.name}: replaced what no token can hold: {words}")
        if words := in_words(_summed(units, number, "bad")):
            log.warning(f"{source.name}: set aside what is no document: {words}")


def _domains(
    sources: Sequence[Source], units: Sequence[dict[str, Any]]
) -> tuple[list[Domain], dict[tuple[int, str], int]]:
    """The domains by source and name, and the number of each by source and the name in its
    shards. Records of two sources that name one domain, of one role and component, share it."""
    found: dict[tuple[str, str, str], int] = {}
    numbers: dict[tuple[int, str], int] = {}
    domains: list[Domain] = []
    for number, source in enumerate(sources):
        mine = (unit for unit in units if unit["source"] == number)
        for name in sorted({shard["domain"] for unit in mine for shard in unit["shards"]}):
            key = name, source.role, source.component
            if key not in found:
                found[key] = len(domains)
                domains.append(
                    Domain(
                        name=_unlike(name, source.role, domains),
                        role=source.role,
                        component=source.component,
                        source=number,
                    )
                )
            numbers[number, name] = found[key]
    if len(domains) > MOST_DOMAINS:
        raise UserError(
            f"data.corpus: {len(domains)} domains; give at most {MOST_DOMAINS}, as fewer .jsonl, "
            f"folders of .txt, or names in the records"
        )
    return domains, numbers


def _unlike(name: str, role: Role, domains: Sequence[Domain]) -> str:
    taken = {domain.name for domain in domains}
    while name in taken:
        name += _SUFFIX[role]
    return name


def _summed(units: Sequence[dict[str, Any]], source: int, name: str) -> dict[str, int]:
    total = Counter[str]()
    for unit in units:
        if unit["source"] == source:
            total.update(unit[name])
    return dict(total)
