"""Numbers as people read them. Anything that is no finite number becomes a dash."""

import math
from typing import Any, TypeGuard

DASH = "–"
# A space that never breaks between a number and its unit.
SPACE = "\u00a0"
PREFIXES = ("", "k", "M", "G", "T", "P", "E")
COUNTS = ("", "k", "M", "B", "T", "Q")  # of things, which have no unit: billions, not giga


def is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and math.isfinite(value)


def fixed(value: Any, digits: int = 3) -> str:
    return f"{value:,.{digits}f}" if is_number(value) else DASH


def signed(value: Any, digits: int = 3) -> str:
    """With its sign, and a real minus."""
    return f"{value:+.{digits}f}".replace("-", "−") if is_number(value) else DASH


def whole(value: Any) -> str:
    return f"{value:,.0f}" if is_number(value) else DASH


def percent(share: Any, digits: int = 1) -> str:
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


def ticks(value: float) -> str:
    """As `si`, without idle zeros: `2 M`, `2.5 M`."""
    number, _, ending = si(value).partition(SPACE)
    if "." in number:
        number = number.rstrip("0").rstrip(".")
    return number + SPACE + ending if ending else number


def duration(seconds: Any) -> str:
    if not is_number(seconds):
        return DASH
    if seconds < 60:
        return f"{seconds:.1f}{SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{SPACE}min {rest:02d}{SPACE}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,}{SPACE}h {minutes:02d}{SPACE}min"


def energy(joules: Any) -> str:
    """Joules, and watt-hours beside them: `12.3 kJ (3.42 Wh)`."""
    if not is_number(joules):
        return DASH
    return f"{si(joules, 'J')} ({si(joules / 3600, 'Wh')})"
