"""The timeline of a result: a strip for each face, one for the voice, as PNG and as a page."""

from __future__ import annotations

import html
import io
import urllib.parse
import warnings

from infer.output.canvas import Colour
from infer.output.draw import COLOURS
from infer.output.strips import strips
from infer.prediction.results import Result

STRIP_PX, GAP_PX, LEFT_PX, WIDTH_PX = 28, 10, 110, 1000
TICK_SECONDS = (0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600)
TICK_PX = 74
"""Least distance of two marks of the time."""

TICK_TEXT_PX = 30
MOST_TICKS = (WIDTH_PX - LEFT_PX) // TICK_PX
LEAST_TEXT_PX = 25
"""Shorter stretches have no room for a number."""

LEAST_TEXT_PART = LEAST_TEXT_PX / WIDTH_PX


def png_bytes(result: Result) -> bytes:
    """Draw the timeline with a legend."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    rows, seconds = strips(result), max(result.duration_seconds, 0.1)
    figure = Figure(figsize=(10, 1.6 + 0.45 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for row, spans in enumerate(rows.values()):
        for said in spans:
            axes.broken_barh(
                [(said.start_seconds, said.end_seconds - said.start_seconds)],
                (row - 0.4, 0.8),
                color=fraction(COLOURS[said.label]),
                alpha=opacity(said.probability),
                linewidth=0,
            )
            if (said.end_seconds - said.start_seconds) / seconds >= LEAST_TEXT_PART:
                middle = (said.start_seconds + said.end_seconds) / 2
                shown = f"{100 * said.probability:.0f}"
                axes.text(middle, row, shown, ha="center", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set_xlim(0, seconds)
    axes.set_xlabel("seconds")
    # A file's name may have dollar signs.
    title = f"{result.file}: {result.emotion} {100 * result.probability:.0f} %"
    axes.set_title(title, parse_math=False)
    used = labels(result)
    handles = [Patch(color=fraction(COLOURS[name])) for name in used]
    figure.legend(handles, used, loc="outside lower center", ncols=len(used), frameon=False)
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # Letters that the font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(stream, format="png", dpi=120)
    return stream.getvalue()


def labels(result: Result) -> list[str]:
    """Return the labels that occur, in the order of emotions."""
    said = {each.label for spans in strips(result).values() for each in spans}
    return [name for name in COLOURS if name in said]


def fraction(colour: Colour) -> tuple[float, float, float]:
    """Return a colour with parts in [0, 1]."""
    red, green, blue = colour
    return red / 255, green / 255, blue / 255


def opacity(probability: float) -> float:
    """Return how strongly a stretch is coloured."""
    return 0.25 + 0.75 * probability


def svg_text(result: Result, width_px: int = WIDTH_PX) -> str:
    """Draw the timeline as SVG; each stretch says what it is when pointed at.

    Parameters
    ----------
    result
        What was said.
    width_px
        Of the drawing: one of the width at which it is shown has letters of their own size.
    """
    rows = strips(result)
    seconds = max(result.duration_seconds, 0.1)
    scale = (width_px - LEFT_PX) / seconds
    height = len(rows) * (STRIP_PX + GAP_PX) + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width_px} {height}" '
        f'class="timeline" data-left="{LEFT_PX}" data-scale="{scale:.6f}" role="img">'
    ]
    for row, (name, spans) in enumerate(rows.items()):
        top = row * (STRIP_PX + GAP_PX)
        parts.append(f'<text x="0" y="{top + STRIP_PX / 2 + 5}">{html.escape(name)}</text>')
        for said in spans:
            left = LEFT_PX + said.start_seconds * scale
            width = (said.end_seconds - said.start_seconds) * scale
            colour = "#{:02x}{:02x}{:02x}".format(*COLOURS[said.label])
            parts.append(
                f'<rect x="{left:.2f}" y="{top}" width="{width:.2f}" height="{STRIP_PX}" '
                f'fill="{colour}" fill-opacity="{opacity(said.probability):.2f}" '
                f'data-seconds="{said.start_seconds:.3f}"><title>{html.escape(name)}, '
                f"{said.start_seconds:.1f} to {said.end_seconds:.1f} s: {said.text}"
                "</title></rect>"
            )
            if width >= LEAST_TEXT_PX:
                parts.append(
                    f'<text x="{left + width / 2:.1f}" y="{top + STRIP_PX / 2 + 5}" '
                    f'class="said">{100 * said.probability:.0f}</text>'
                )
    fitting = (step for step in TICK_SECONDS if step * scale >= TICK_PX)
    step = next(fitting, TICK_SECONDS[-1])
    for number in range(int(seconds / step) + 1):
        x, shown = LEFT_PX + number * step * scale, f"{number * step:g} s"
        if x + TICK_TEXT_PX <= width_px:
            parts.append(f'<text x="{x:.1f}" y="{height - 4}" class="tick">{shown}</text>')
    return "".join(parts) + "</svg>"


def html_text(result: Result, source: str) -> str:
    """Write a page of its own: the recording, and its timeline, a click on which seeks.

    Parameters
    ----------
    result
        What was said.
    source
        Path of the recording from the page.
    """
    legend = "".join(
        '<li><i style="background:rgb({},{},{})"></i>{}</li>'.format(*COLOURS[name], name)
        for name in labels(result)
    )
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in result.notes)
    kind = "video" if result.size_px[0] else "audio"
    title = html.escape(f"{result.file}: {result.emotion} {100 * result.probability:.0f} %")
    return PAGE.format(
        title=title,
        kind=kind,
        source=html.escape(urllib.parse.quote(source, errors="surrogateescape")),
        svg=svg_text(result),
        legend=legend,
        notes=notes,
    )


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 15px system-ui, sans-serif; max-width: 1000px; margin: 1rem auto; padding: 0 1rem; }}
video, audio {{ width: 100%; max-height: 60vh; }}
svg {{ width: 100%; cursor: pointer; }} text {{ font-size: 14px; }} .tick {{ fill: #777; }}
.said {{ text-anchor: middle; pointer-events: none; }}
ul.legend {{ display: flex; flex-wrap: wrap; gap: 1rem; list-style: none; padding: 0; }}
.legend i {{ display: inline-block; width: 1em; height: 1em; margin-right: .4em; }}
</style></head><body>
<h1>{title}</h1>
<{kind} controls preload="metadata" src="{source}"></{kind}>
{svg}
<ul class="legend">{legend}</ul>
<ul>{notes}</ul>
<script>
const player = document.querySelector("video, audio"), svg = document.querySelector("svg");
const left = +svg.dataset.left, scale = +svg.dataset.scale, box = svg.viewBox.baseVal;
const cursor = document.createElementNS(svg.namespaceURI, "line");
cursor.setAttribute("y2", box.height); cursor.setAttribute("stroke", "#000");
svg.append(cursor);
const move = () => {{
  const x = left + player.currentTime * scale;
  cursor.setAttribute("x1", x); cursor.setAttribute("x2", x);
}};
player.addEventListener("timeupdate", move); move();
svg.addEventListener("click", event => {{
  const area = svg.getBoundingClientRect();
  const x = (event.clientX - area.left) / area.width * box.width;
  player.currentTime = Math.max(0, (x - left) / scale);
}});
</script></body></html>
"""
