"""Templates to pages."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from glam.reporting.theme import PRINT


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A figure of the page: an SVG element that describes itself, and words under it."""

    svg: Markup
    caption: str


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("glam.reporting"),
        autoescape=True,  # names and samples are other people's text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **content: Any) -> str:
    """The page of a template of `glam/reporting/templates`, filled with `content`."""
    return (
        _environment()
        .get_template(template)
        .render(series=PRINT.series, scale=PRINT.scale, **content)
    )
