"""Sections about the data: how much there is, what it looks like, what is wrong with it."""

from __future__ import annotations

from collections import Counter

from pipeline.corpora import audit as audits
from pipeline.corpora import balance
from pipeline.corpora.actors import Actor
from pipeline.spec import EMOTIONS
from train.data import duplicates
from train.evaluation import figures
from train.page import rows
from train.page.markup import (
    Markup,
    counted,
    details,
    element,
    figure,
    join,
    paragraph,
    table,
)
from train.page.material import Audit, Material

SHEET_CLIPS = 6
"""Faces of each emotion on the contact sheet."""

MOST_ACTORS = 200
"""Of more actors than this, the table names those with most clips."""

SHOWN = 200
"""Most clips or findings that are named in a list."""


def side_of(material: Material) -> dict[int, str]:
    """Which side of the model's split each actor is on."""
    if material.trained is None:
        return {}
    sides = material.trained.description.get("actors", {})
    return {actor: side for side, actors in sides.items() for actor in actors}


def counts(material: Material) -> Markup:
    """Clips by actor and emotion, as a picture and as a table."""
    index, names = material.index, material.audit.actor_names if material.audit else {}
    actors, numbers = balance.count_clips(index.clips)
    sides = side_of(material)
    audio: Counter[Actor] = Counter()
    video: Counter[Actor] = Counter()
    for clip in index.clips:
        audio[clip.actor] += clip.has_audio
        video[clip.actor] += clip.has_video
    lines = [
        (
            join([actor, names.get(actor, "")], " "),
            *([sides.get(actor, "-")] if sides else []),
            *row.tolist(),
            int(row.sum()),
            audio[actor],
            video[actor],
        )
        for actor, row in zip(actors, numbers, strict=True)
    ]
    if left := len(lines) - MOST_ACTORS:
        lines = sorted(lines, key=lambda line: -line[-3])[:MOST_ACTORS] if left > 0 else lines
    lines.append(
        (
            "all",
            *([""] if sides else []),
            *numbers.sum(axis=0).tolist(),
            len(index.clips),
            audio.total(),
            video.total(),
        )
    )
    shown = f"the {MOST_ACTORS} with most clips" if left > 0 else "all of them"
    drawn = figures.new_figure(9, 3)
    figures.plot_counts(drawn.subplots(), actors, numbers)
    said = balance.imbalance(index.clips)
    alt = f"Clips of {len(actors)} actors by emotion: {said}."
    header = ["actor", *(["side"] if sides else []), *EMOTIONS, "all", "with audio", "with video"]
    return join(
        [
            paragraph(f"Balance: {said}."),
            figure(
                Markup(figures.svg_text(drawn, alt)),
                "Clips of each actor by emotion; the darker, the more.",
                class_="wide",
            ),
            details(
                f"The same as a table ({shown})",
                table(header, lines, class_="total"),
            ),
        ]
    )


def facts(material: Material) -> Markup:
    """Write the size of a cache in a few numbers."""
    index = material.index
    found = {
        "clips": f"{len(index.clips):,}",
        "actors": f"{len(index.actors):,}",
        "rows, with variants": f"{index.rows:,}",
        "on disk": f"{index.bytes / 1e9:,.1f} GB",
        "left out": f"{len(index.unreadable):,}",
    }
    return element(
        "div",
        *(
            element("div", element("b", number), element("span", what), class_="fact")
            for what, number in found.items()
        ),
        class_="facts",
    )


def contact_sheet(material: Material) -> Markup:
    """Show faces and MFCC images of each emotion, clean, and the variants of one clip."""
    index = material.index
    chosen = rows.chosen_clips(index, SHEET_CLIPS)
    firsts = [entries[0] for entries in chosen.values()]
    others = [entry for entries in chosen.values() for entry in entries[1:]]
    tensors = rows.read_rows(index, others, False) | rows.read_rows(index, firsts, True)
    clean = index.spec.row_names[0]
    scaled = rows.scale(rows.readable(tensors))
    parts = [
        paragraph(
            "The frame in the middle of each window, and below it the MFCC image that the network "
            "reads: time runs to the right, coefficients upwards, each standardised over the "
            "images shown. Of the first clip the variants follow.",
        )
    ]
    for emotion, entries in chosen.items():
        wanted = [(entries[0], name) for name in index.spec.row_names]
        wanted += [(entry, clean) for entry in entries[1:]]
        tiles = []
        for entry, variant in wanted:
            row, what = tensors[entry.clip, variant], f"actor {entry.actor}, {variant}"
            alt = f"{emotion}, clip {entry.clip}, {what}"
            if isinstance(row, str):
                tiles.append(figure(element("p", row, class_="bad soft"), what))
                continue
            images = join(
                [
                    rows.frames_image(rows.middle(row), f"Face: {alt}"),
                    rows.mfcc_image(row, scaled, f"MFCC image: {alt}"),
                ]
            )
            tiles.append(figure(images, what))
        parts += [element("h3", emotion), element("div", *tiles, class_="tiles")]
    return join(parts)


def faults(material: Material) -> Markup:
    """List what was left out, what is odd, and what an audit found."""
    parts = []
    if material.index is not None:
        parts += [left_out(material), odd(material)]
    if material.audit is not None:
        parts.append(audit_table(material.audit))
    return join(parts)


def left_out(material: Material) -> Markup:
    """Name the clips without rows, with the reasons."""
    unreadable = material.index.unreadable
    if not unreadable:
        return paragraph("Every clip could be read.")
    lines = [(entry.clip, entry.actor, entry.emotion, entry.reason) for entry in unreadable[:SHOWN]]
    more = f" The first {SHOWN} of them:" if len(unreadable) > SHOWN else ""
    return join(
        [
            paragraph(f"{counted(len(unreadable), 'clip')} could not be read: no rows.{more}"),
            table(["clip", "actor", "emotion", "reason"], lines, class_="text"),
        ]
    )


def odd(material: Material) -> Markup:
    """Count the clips that lack a face or a modality, and those filed under two actors."""
    clips = material.index.clips
    kinds = {
        "without a face in the window: the centred square is cached": [
            clip for clip in clips if clip.has_video and not clip.face_found
        ],
        "without audio: their MFCCs are zeros": [clip for clip in clips if not clip.has_audio],
        "without video: their frames are zeros": [clip for clip in clips if not clip.has_video],
    }
    groups = duplicates.across_actors(material.index)
    copied = duplicates.left_out(groups)
    kinds["whose recording is filed under two actors: left out of training"] = [
        clip for clip in clips if clip.clip in copied
    ]
    lines = []
    for what, found in kinds.items():
        named = ", ".join(clip.clip for clip in found[:SHOWN])
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        shown = details("which", f"{named}{more}") if 0 < len(found) < len(clips) else ""
        lines.append((f"{len(found):,}", join([f"clips {what}", shown], " ")))
    return table(["number", "what"], lines, class_="text")


def audit_table(audit: Audit) -> Markup:
    """Write every kind that an audit found, how often, and the first of it."""
    title = element("h3", "What the audit found in the raw files")
    if not audit.findings:
        return join([title, paragraph(f"Nothing odd in {audit.clips} clips.")])
    lines = []
    for kind, own, count in audits.grouped(audit.findings):
        said = [finding.line for finding in own]
        shown = "; ".join(said[:3])
        more = said[3:SHOWN]
        rest = details(f"{len(said) - 3} more", "; ".join(more)) if more else ""
        kind_said = join([kind, element("span", audit.kinds.get(kind, ""), class_="soft")], ": ")
        lines.append((f"{count:,}", kind_said, join([shown, rest], " ")))
    return join(
        [
            title,
            paragraph(f"{audit.clips:,} clips, from {audit.path.name}.", class_="soft"),
            table(["number", "kind", "found"], lines, class_="text"),
        ]
    )
