"""How numbers, counts, bytes, durations and energies are written, for pages, tables and messages.

Pages keep a number and its unit on one line (SPACE never breaks); messages of the terminal have
plain spaces, so that they can be searched. A value that is no finite number becomes a dash.
"""

import math
from typing import Any, TypeGuard

DASH = "–"
# A space that never breaks between a number and its unit.
SPACE = "\u00a0"
PREFIXES = ("", "k", "M", "G", "T", "P", "E")
COUNTS = ("", "k", "M", "B", "T", "Q")  # of things, which have no unit: billions, not giga
JOULES_PER_MWH = 3.6e9


def is_number(value: Any) -> TypeGuard[float]:
    """Whether `value` is finite."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def fixed(value: Any, digits: int = 3) -> str:
    """With `digits` decimals and a comma at thousands."""
    return f"{value:,.{digits}f}" if is_number(value) else DASH


def signed(value: Any, digits: int = 3) -> str:
    """With its sign, and a real minus."""
    return f"{value:+.{digits}f}".replace("-", "−") if is_number(value) else DASH


def whole(value: Any) -> str:
    """Rounded to a whole number, with a comma at thousands."""
    return f"{value:,.0f}" if is_number(value) else DASH


def percent(share: Any, digits: int = 1) -> str:
    """A share of 1 in percent."""
    return f"{100 * share:.{digits}f}{SPACE}%" if is_number(share) else DASH


def si(value: Any, unit: str = "") -> str:
    """Three significant digits and a prefix: `5.00 M`, `27.1 B`, `12.3 kJ`, `27.1 GB`."""
    if not is_number(value):
        return DASH
    prefixes = PREFIXES if unit else COUNTS
    exponent = 0
    rounded = float(f"{value:.3g}")  # first, so that 999.7 becomes 1.00 k and not 1000
    while abs(rounded) >= 1000 and exponent < len(prefixes) - 1:
        rounded, exponent = rounded / 1000, exponent + 1
    ending = SPACE + prefixes[exponent] + unit if exponent or unit else ""
    if exponent == 0 and (float(value).is_integer() or abs(value) < 1e-3):
        return f"{value:.3g}" + ending
    return f"{rounded:.{max(0, 2 - math.floor(math.log10(abs(rounded))))}f}" + ending


def count(number: Any) -> str:
    """A count in a message: three significant digits and T, B or M, smaller ones in full."""
    if not is_number(number):
        return DASH
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:,.0f}"


def byte_size(number: Any) -> str:
    """Bytes in a message, in decimal units: `1.2 TB`, `24.0 GB`, `512 MB`."""
    if not is_number(number):
        return DASH
    for unit, size in (("TB", 1e12), ("GB", 1e9)):
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return f"{number / 1e6:,.0f} MB"


def counted(number: int, thing: str) -> str:
    """A number and its noun, in the plural where it is not one: `1 run`, `2 runs`."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def reading(value: float) -> str:
    """A figure beside a progress bar, of which the size is not known: `28,412`, `4.213`."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"


def ticks(value: float, unit: str = "") -> str:
    """As `si`, without idle zeros: `2 M`, `2.5 GB`."""
    number, _, ending = si(value, unit).partition(SPACE)
    if "." in number:
        number = number.rstrip("0").rstrip(".")
    return number + SPACE + ending if ending else number


def clock(seconds: float) -> str:
    """A duration in a column that changes while it is watched: `4:07`, `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def duration(seconds: Any) -> str:
    """A duration to read: `4.2 s`, `2 min 05 s`, `3 h 04 min`."""
    if not is_number(seconds):
        return DASH
    if seconds < 60:
        return f"{seconds:.1f}{SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{SPACE}min {rest:02d}{SPACE}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,}{SPACE}h {minutes:02d}{SPACE}min"


def in_message(text: str) -> str:
    """A text of this module for a message of the terminal, where every space is plain."""
    return text.replace(SPACE, " ")


def energy(joules: Any) -> str:
    """Joules, and watt-hours beside them: `12.3 kJ (3.42 Wh)`."""
    if not is_number(joules):
        return DASH
    return f"{si(joules, 'J')} ({si(joules / 3600, 'Wh')})"
