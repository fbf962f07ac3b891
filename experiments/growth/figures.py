"""One figure an axis: what was measured, and the line of theory."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from glam.reporting.theme import PRINT, number_format, panels

Row = dict[str, object]
UNITS = {
    "tokens": "tokens in a step",
    "width": "width (hidden units: 4 times)",
    "experts": "experts in every other layer",
    "length": "sequence length (as many tokens in a step)",
    "vocabulary": "vocabulary",
    "threads": "threads",
}


def sizes(rows: list[Row], folder: Path) -> None:
    for axis in UNITS:
        mine = [row for row in rows if row["axis"] == axis]
        if mine:
            _figure(axis, mine, folder)


def _figure(axis: str, rows: list[Row], folder: Path) -> None:
    has_memory = any(row.get("mb") for row in rows)
    figure, places = panels(PRINT, 2 if has_memory else 1, size=(4.2, 3.2))
    _panel(places[0], rows, axis, ("ms", "line_ms"), "CPU ms a step")
    if has_memory:
        _panel(places[1], rows, axis, ("mb", "line_mb"), "MB at the peak")
    figure.savefig(folder / f"{axis}.png")
    figure.savefig(folder / f"{axis}.svg", metadata={"Date": None})


def _panel(axes: Axes, rows: list[Row], axis: str, columns: tuple[str, str], title: str) -> None:
    precisions = list(dict.fromkeys(str(row["precision"]) for row in rows))
    sizes = sorted({float(str(row["value"])) for row in rows})
    for place, precision in enumerate(precisions):
        mine = [row for row in rows if row["precision"] == precision]
        found, line = ([float(str(row[name])) for row in mine] for name in columns)
        at, colour = [float(str(row["value"])) for row in mine], PRINT.colour(place)
        axes.loglog(at, line, "-", color=colour, linewidth=1, label=f"{precision}, theory")
        axes.loglog(at, found, "o", color=colour, markersize=4, label=f"{precision}, measured")
    axes.set_title(title, fontsize=9, loc="left", color=PRINT.ink)
    axes.set_xlabel(UNITS[axis], fontsize=8)
    axes.set_xticks(sizes, [f"{size:,.0f}" for size in sizes], fontsize=7)
    axes.yaxis.set_major_locator(LogLocator(2))
    axes.yaxis.set_major_formatter(number_format())
    axes.tick_params(axis="y", labelsize=7)
    axes.minorticks_off()
    axes.legend(fontsize=6.5, frameon=False)


def pace(rows: list[Row], folder: Path) -> None:
    """Each minute's pace and memory over those of the first."""
    figure, places = panels(PRINT, 1, size=(5.5, 3.0))
    axes, minutes = places[0], [float(str(row["minute"])) for row in rows]
    series = {"cpu_ms_a_step": "CPU time a step", "resident_mb": "memory"}
    for place, (column, label) in enumerate(series.items()):
        values = [float(str(row[column])) for row in rows]
        over = [value / values[0] for value in values]
        axes.plot(minutes, over, "o-", color=PRINT.colour(place), markersize=3, label=label)
    axes.axhline(1, color=PRINT.muted, linewidth=0.8)
    axes.set_ylim(0, 1.3)
    axes.set_title("over the first minute", fontsize=9, loc="left", color=PRINT.ink)
    axes.set_xlabel("minute of CPU time")
    axes.legend(fontsize=8, frameon=False)
    figure.savefig(folder / "pace.png")
    figure.savefig(folder / "pace.svg", metadata={"Date": None})
