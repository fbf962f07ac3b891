"""How cost grows with each size (growth)."""

from statistics import median

from experiments.pages.tables import Rows, plain
from experiments.pages.words import Claim, markdown
from glam.units import duration, percent, signed

SIZES, PARTS = "growth/sizes.csv", "growth/parts.csv"
RUN_TIME, INSTALL = "growth/run_time.csv", "growth/install.csv"
FRESH, PREPARED = "fresh clone", "text prepared"
FAR = 0.15  # from the line of theory


def grows_as_counted() -> Claim:
    """Whether time and memory lie near what the plan counts."""
    rows = _sizes()
    near = [row for row in rows if abs(float(row["departure"])) <= FAR]
    memory = max(abs(float(row["memory_departure"])) for row in rows)
    return Claim(
        "Yes" if len(near) == len(rows) else f"At {len(near)} of {len(rows)} sizes",
        "There (each in two types of number) the time of a step is within "
        f"{percent(FAR, 0)} of the line of its FLOPs and bytes; its memory is within "
        f"{percent(memory, 0)} at all.",
    )


def _sizes() -> Rows:
    """Without the rows of threads, which are of the machine."""
    return [row for row in plain(SIZES) if not row["axis"].startswith("threads")]


def departures() -> str:
    """The sizes whose time lies further from the line."""
    made = [
        [
            row["axis"],
            row["value"],
            row["precision"],
            f"{signed(100 * float(row['departure']), 0)} %",
        ]
        for row in _sizes()
        if abs(float(row["departure"])) > FAR
    ]
    return markdown(["size", "of", "precision", "time, from the line"], made)


def part_table() -> str:
    """The time of each part over that of its FLOPs."""
    rows = [row for row in plain(PARTS) if row["times_limit"]]
    parts = list(dict.fromkeys(row["part"] for row in rows))
    places = list(dict.fromkeys((row["axis"], row["value"], row["precision"]) for row in rows))
    made = [[*place, *(_times(rows, place, part) for part in parts)] for place in places]
    return markdown(["size", "of", "precision", *parts], made)


def _times(rows: Rows, place: tuple[str, str, str], part: str) -> str:
    found = [
        row["times_limit"]
        for row in rows
        if (row["axis"], row["value"], row["precision"], row["part"]) == (*place, part)
    ]
    return f"{float(found[0]):.1f}" if found else ""


def two_threads() -> str:
    """By the clock."""
    rows = [row for row in plain(SIZES) if row["axis"] == "threads, wall clock"]
    of = {(row["precision"], row["value"]): float(row["ms"]) for row in rows}
    told = " and ".join(
        f"{of[dtype, '2'] / of[dtype, '1']:.2f} in {dtype}" for dtype in ("float32", "bfloat16")
    )
    return f"Two threads take {told} of the time of one, by the clock."


def pace() -> str:
    """The last minute beside the first."""
    rows = plain("growth/pace.csv")
    first, last = (float(rows[place]["cpu_ms_a_step"]) for place in (0, -1))
    memory = [float(row["resident_mb"]) for row in rows]
    steps = sum(int(row["steps"]) for row in rows)
    slower = signed(100 * (last / first - 1), 1)
    return (
        f"In {len(rows)} minutes of CPU time ({steps:,} steps) the last minute took {slower} % "
        f"time a step beside the first; memory lay between {min(memory):.0f} and "
        f"{max(memory):.0f} MB."
    )


def run_time() -> str:
    """Where the time of `make run` goes, by kernels, by the clock."""
    rows = plain(RUN_TIME)
    fresh = [row for row in rows if row["run"] == FRESH]
    sets = list(dict.fromkeys(row["kernels"] for row in fresh))
    at = {(row["kernels"], row["phase"]): row for row in fresh}
    made: list[list[str]] = []
    for phase in dict.fromkeys(row["phase"] for row in fresh):
        mine = [at[kernels, phase] for kernels in sets]
        cells = [f"{float(r['seconds']):.1f} ({percent(float(r['share']), 1)})" for r in mine]
        made.append([phase, *cells, mine[0]["times"]])
    table = markdown(["phase", *(f"`{name}`, s" for name in sets), "times"], made)
    return f"{table}\n\n{' '.join(_told(rows, name) for name in sets)}"


def _told(rows: Rows, kernels: str) -> str:
    def of(run: str) -> tuple[float, float]:
        mine = [row for row in rows if (row["run"], row["kernels"]) == (run, kernels)]
        other = sum(float(row["share"]) for row in mine if row["phase"] != "training")
        return sum(float(row["seconds"]) for row in mine), other

    (whole, other), (again, less) = of(FRESH), of(PREPARED)
    return (
        f"With `{kernels}` the run takes {duration(whole)} in a fresh clone, of which "
        f"{percent(other, 0)} is not training, and {duration(again)} where the text is prepared "
        f"({percent(less, 0)})."
    )


def install_table() -> str:
    """Ways to set up the environment of `make run`, their medians."""
    rows = plain(INSTALL)
    made = []
    for way in dict.fromkeys(row["way"] for row in rows):
        mine = [row for row in rows if row["way"] == way]
        numbers = (
            median(float(row[key]) for row in mine)
            for key in ("install_seconds", "first_import_seconds", "seconds", "cpu_seconds")
        )
        made.append([f"`{way}`", *(f"{number:.1f}" for number in numbers)])
    titles = ["way", "installed, s", "first import, s", "both, s", "CPU, s"]
    return markdown(titles, made)
