"""HTML elements as text; whatever is not markup already is escaped."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence

VOID = {"img", "meta", "br"}
"""Elements without content."""


class Markup(str):
    """Text that is HTML already."""


def escape(value: object) -> Markup:
    """Return markup as it is, anything else as text that shows what it says."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def join(parts: Iterable[object], between: str = "") -> Markup:
    """Join markup, or text that is escaped."""
    return Markup(between.join(map(escape, parts)))


def element(name: str, *children: object, **attributes: object) -> Markup:
    """Write an element.

    Parameters
    ----------
    name
        Such as ``p``.
    children
        Markup, or text that is escaped.
    attributes
        A ``_`` at the end is left away (``class_``), others become ``-``; None and False leave an
        attribute away, True writes its name alone.
    """
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(value)}"')
        for key, value in attributes.items()
        if value not in (None, False)
    )
    end = "" if name in VOID else f"{join(children)}</{name}>"
    return Markup(f"<{name}{written}>{end}")


def paragraph(*children: object, class_: str | None = None) -> Markup:
    """Write a paragraph."""
    return element("p", *children, class_=class_)


def table(
    header: Sequence[object], rows: Iterable[Sequence[object]], class_: str | None = None
) -> Markup:
    """Write a table that scrolls sideways where there is no room; the first column names rows."""
    head = element("tr", *(element("th", cell, scope="col") for cell in header))
    body = [
        element("tr", element("th", first, scope="row"), *(element("td", cell) for cell in cells))
        for first, *cells in rows
    ]
    written = element("table", element("thead", head), element("tbody", *body), class_=class_)
    return element("div", written, class_="scroll", tabindex="0")


def figure(content: Markup, caption: object, class_: str | None = None) -> Markup:
    """Write a figure with a caption."""
    return element("figure", content, element("figcaption", caption), class_=class_)


def details(title: object, *children: object) -> Markup:
    """Write what is shown when its title is clicked."""
    return element("details", element("summary", title), *children)


def data_uri(content: bytes, kind: str) -> str:
    """Write bytes of a MIME type as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def counted(count: int, noun: str) -> str:
    """Write a number with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def percent(part: float | None, digits: int = 0) -> str:
    """Write a part of one; a dash where there was nothing to measure."""
    return "-" if part is None else f"{100 * part:.{digits}f}\N{NO-BREAK SPACE}%"
