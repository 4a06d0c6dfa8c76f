"""Labels beside the video instead of in it: its packets copied into a Matroska file with subtitles.

Nothing is encoded: it takes as long as copying the file. Boxes and labels are drawn by the player.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from infer.output.draw import COLOURS, TRACK_COLOURS
from infer.output.strips import Said, by_face
from infer.prediction.results import Result
from infer.reading.tracks import LOST_SECONDS, Track
from pipeline.media import subtitle

FONT_PART = 1 / 22
"""Height of the labels as a part of the frame's."""

HEADER = """[Script Info]
ScriptType: v4.00+
PlayResX: {width}
PlayResY: {height}
ScaledBorderAndShadow: yes

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, OutlineColour, BorderStyle, Outline, Alignment
Style: label,sans-serif,{size},&H00101010,&H00FFFFFF,3,2,1
Style: box,sans-serif,{size},&H00FFFFFF,&H00FFFFFF,1,0,7

[Events]
Format: Layer, Start, End, Style, Text
"""


def write_overlay(result: Result, source: Path, path: Path, sound: Path | None = None) -> None:
    """Write a copy of a video with boxes and labels as subtitles.

    Parameters
    ----------
    result
        What was said of it.
    source
        The video.
    path
        The mkv to write.
    sound
        A file with its sound; None takes the video's own.

    Raises
    ------
    MediaError
        If the video cannot be read.
    """
    subtitle.copy_with_subtitles(source, ass_text(result), path, sound)


def ass_text(result: Result) -> str:
    """Write boxes and labels in the format of Advanced SubStation Alpha."""
    width, height = result.size_px
    size = max(8, round(height * FONT_PART))
    lines = [HEADER.format(width=width, height=height, size=size)]
    spans = by_face(result)
    several = len(result.tracks) > 1
    for track in result.tracks:
        said = spans[f"face {track.number}"]
        prefix = f"{track.number}: " if several else ""
        lines += track_lines(track, said, prefix, size)
    for each in spans.get("no face", []):
        place = f"\\pos({size // 2},{2 * size})"
        lines.append(label_line(each.start_seconds, each.end_seconds, each, place, ""))
    return "".join(lines)


def track_lines(track: Track, said: list[Said], prefix: str, size: int) -> Iterator[str]:
    """Write a face's box and label for each stretch from one find to the next.

    Where it is not found for ``LOST_SECONDS``, nothing is shown.
    """
    colour = ass_colour(TRACK_COLOURS[(track.number - 1) % len(TRACK_COLOURS)])
    border = max(1, size // 12)
    ends = [*track.times[1:], track.times[-1] + LOST_SECONDS]
    for number, (start, end) in enumerate(zip(track.times, ends, strict=True)):
        last = end - start > LOST_SECONDS or number + 1 == len(track.times)
        end = min(end, start + LOST_SECONDS / 2) if last else end
        x, y, w, h = (round(side) for side in track.boxes[number])
        after = track.boxes[number if last else number + 1]
        there = f"\\move({x},{y},{round(after.x)},{round(after.y)})"
        drawing = (
            f"{{{there}\\an7\\1a&HFF&\\bord{border}\\3c{colour}\\p1}}m 0 0 l {w} 0 {w} {h} 0 {h}"
        )
        yield event(start, end, "box", drawing)
        for each in said:
            first, until = max(start, each.start_seconds), min(end, each.end_seconds)
            if until > first:
                yield label_line(first, until, each, f"\\pos({x},{y})", prefix)


def label_line(start: float, end: float, said: Said, place: str, prefix: str) -> str:
    """Write a label on a plate in the colour of its emotion."""
    plate = f"{{{place}\\an1\\3c{ass_colour(COLOURS[said.label])}}}"
    return event(start, end, "label", f"{plate}{prefix}{said.text}")


def event(start: float, end: float, style: str, text: str) -> str:
    """Write one line of the events."""
    return f"Dialogue: 0,{ass_clock(start)},{ass_clock(end)},{style},{text}\n"


def ass_colour(colour: tuple[int, int, int]) -> str:
    """Write a colour as blue, green and red in hexadecimal."""
    red, green, blue = colour
    return f"&H{blue:02X}{green:02X}{red:02X}&"


def ass_clock(seconds: float) -> str:
    """Write a time with hundredths, such as ``1:02:03.45``."""
    hundredths = round(100 * max(0.0, seconds))
    minutes, rest = divmod(hundredths, 6000)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest // 100:02d}.{rest % 100:02d}"
