"""Raw data looked at before it is trusted: what is missing, copied, misfiled, broken or odd."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import atomic
from pipeline.corpora import sources
from pipeline.corpora.catalogue import CHANNELS, Catalog
from pipeline.corpora.measure import Facts
from pipeline.errors import MediaError
from pipeline.media import container

APART_SECONDS = 0.2
"""Sound and pictures of a take that differ more in length were not recorded together."""

CLIPPED_PART = 1e-3
"""A recording with more of its samples at full scale was too loud for its microphone."""

RATE_TOLERANCE = 0.01

RAVDESS_ACTORS = {"speech": range(1, 25), "song": (*range(1, 18), *range(19, 25))}
RAVDESS_EMOTIONS = {"speech": 8, "song": 6}
RAVDESS_TAKE = re.compile(r"\d{2}(-\d{2}){5}")

KINDS = {
    "missing": "clips that RAVDESS has and the folder lacks",
    "unreadable": "clips that cannot be read",
    "misfiled": "files whose name and folder disagree about the actor",
    "copied across actors": "one recording under two actors; left out of training",
    "copied": "one recording under two names of an actor",
    "apart": f"sound and video differ by more than {APART_SECONDS} s in length",
    "silent": "sound that never rises above -80 dB",
    "clipped": f"sound with more than {CLIPPED_PART:.1%} of its samples at full scale",
    "no face": "no face in the window; the centred square is cached",
    "other frame rate": "not the frame rate that most clips have",
    "uneven frames": "the time from picture to picture varies",
    "set aside": "files that are no clip",
}
"""Every kind of finding with its meaning, the gravest first."""


@dataclass(frozen=True)
class Finding:
    """Something odd: its kind (a key of ``KINDS``), the clips or files, and the details."""

    kind: str
    names: tuple[str, ...]
    detail: str


def judge(catalog: Catalog, facts: Sequence[Facts]) -> list[Finding]:
    """Decide what is odd about a raw folder, the gravest kind first.

    Parameters
    ----------
    catalog
        What the folder holds.
    facts
        Measured of each of its clips.

    Returns
    -------
    list of Finding
    """
    found = [
        *missing(facts),
        *(
            Finding("unreadable", (fact.clip,), problem)
            for fact in facts
            for problem in fact.problems
        ),
        *files_of("misfiled", catalog.root, catalog.misplaced),
        *copies(facts),
        *odd_sound(facts),
        *(
            Finding("no face", (fact.clip,), "no face in its window")
            for fact in facts
            if fact.face_found is False
        ),
        *odd_frames(facts),
        *files_of("set aside", catalog.root, catalog.unpaired),
        *files_of("set aside", catalog.root, catalog.unreadable),
        *files_of("set aside", catalog.root, catalog.duplicates),
    ]
    order = list(KINDS)
    return sorted(found, key=lambda finding: order.index(finding.kind))


def missing(facts: Iterable[Facts]) -> list[Finding]:
    """Compare a folder of RAVDESS names with RAVDESS: one finding a channel.

    Notes
    -----
    Livingstone & Russo 2018: 24 actors speak 60 clips each, neutral 4 times (it has one intensity),
    every other emotion 8 times; all but actor 18 sing 44, without disgust and surprise.
    """
    there = {fact.clip for fact in facts}
    if not all(RAVDESS_TAKE.fullmatch(clip) for clip in there):
        return []
    found = []
    for channel, code in CHANNELS.items():
        if not any(clip.startswith(f"{code}-") for clip in there):
            continue
        wanted = {
            actor: [
                f"{code}-{emotion:02d}-{intensity:02d}-{statement:02d}-{repetition:02d}-{actor:02d}"
                for emotion in range(1, RAVDESS_EMOTIONS[channel] + 1)
                for intensity, statement, repetition in itertools.product((1, 2), repeat=3)
                if not (emotion == 1 and intensity == 2)
            ]
            for actor in RAVDESS_ACTORS[channel]
        }
        absent = {
            actor: [clip for clip in clips if clip not in there] for actor, clips in wanted.items()
        }
        names = tuple(clip for clips in absent.values() for clip in clips)
        if names:
            total = sum(map(len, wanted.values()))
            whole = [actor for actor in absent if len(absent[actor]) == len(wanted[actor])]
            some = {actor: len(clips) for actor, clips in absent.items() if clips}
            parts = [f"all of actors {ranges(whole)}"] if whole else []
            parts += [f"{some[actor]} of actor {actor}" for actor in some if actor not in whole]
            detail = f"{len(names)} of {total} {channel} clips: {', '.join(parts)}"
            found.append(Finding("missing", names, detail))
    return found


def ranges(numbers: Sequence[int]) -> str:
    """Write sorted numbers shortly: ``[1, 2, 3, 9]`` to ``"1-3, 9"``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def copies(facts: Iterable[Facts]) -> list[Finding]:
    """Find recordings under several names, by the bytes of their files and by their samples."""
    holders: dict[tuple[str, str], dict[str, int]] = {}
    for fact in facts:
        contents = {("the same file", digest) for digest in fact.files.values()}
        if fact.sound_digest:
            contents.add(("the same sound", fact.sound_digest))
        for content in contents:
            holders.setdefault(content, {})[fact.clip] = fact.actor
    alike: dict[tuple[str, ...], tuple[set[int], set[str]]] = {}
    for (what, _), clips in holders.items():
        if len(clips) > 1:
            actors, ways = alike.setdefault(tuple(sorted(clips)), (set(), set()))
            actors.update(clips.values())
            ways.add(what)
    return [
        Finding(
            "copied across actors" if len(actors) > 1 else "copied",
            clips,
            f"{' = '.join(clips)}: {' and '.join(sorted(ways))}",
        )
        for clips, (actors, ways) in sorted(alike.items())
    ]


def odd_sound(facts: Iterable[Facts]) -> list[Finding]:
    """Find silent and clipped sound, and sound of another length than its video."""
    found = []
    for fact in facts:
        if fact.peak is None:
            continue
        if fact.sound_digest is None:
            found.append(Finding("silent", (fact.clip,), f"peak {fact.peak:.6f}"))
        if fact.clipped_part > CLIPPED_PART:
            share = f"{fact.clipped_part:.2%} of the samples at full scale"
            found.append(Finding("clipped", (fact.clip,), share))
        lengths = (fact.sound_seconds, fact.video_seconds)
        if None not in lengths and abs(lengths[0] - lengths[1]) > APART_SECONDS:
            said = f"{lengths[0]:.2f} s of sound, {lengths[1]:.2f} s of video"
            found.append(Finding("apart", (fact.clip,), said))
    return found


def odd_frames(facts: Sequence[Facts]) -> list[Finding]:
    """Find frame rates that differ from the corpus' own, and pictures that come unevenly."""
    counts = Counter(round(fact.frame_rate, 2) for fact in facts if fact.frame_rate)
    if not counts:
        return []
    common = min(counts, key=lambda rate: (-counts[rate], rate))
    found = []
    for fact in facts:
        if fact.frame_rate and abs(fact.frame_rate / common - 1) > RATE_TOLERANCE:
            said = f"{fact.frame_rate:.2f} pictures a second, most clips have {common:.2f}"
            found.append(Finding("other frame rate", (fact.clip,), said))
        if fact.uneven_gaps:
            said = f"{fact.uneven_gaps} gaps between pictures are not the usual one"
            found.append(Finding("uneven frames", (fact.clip,), said))
    return found


def files_of(kind: str, root: Path, files: Iterable[tuple[Path, str]]) -> list[Finding]:
    """List files that are no clip: what they really are, or why they were set aside."""
    found = []
    for path, reason in files:
        try:
            container.refuse_unusable_file(path)
        except MediaError as error:
            reason = f"{reason}; {error}"
        found.append(Finding(kind, (sources.relative_path(path, root),), reason))
    return found


def table(findings: Sequence[Finding], shown: int = 3) -> str:
    """Lines for a person: every kind that occurs, how often, and the first few of it."""
    lines = []
    for kind, meaning in KINDS.items():
        own = [finding for finding in findings if finding.kind == kind]
        if not own:
            continue
        count = sum(len(finding.names) for finding in own) if kind == "missing" else len(own)
        lines.append(f"{count:>6}  {kind}: {meaning}")
        for finding in own[:shown]:
            named = kind in ("missing", "copied", "copied across actors")
            lines.append(
                f"{'':8}{finding.detail if named else f'{finding.names[0]}: {finding.detail}'}"
            )
        if len(own) > shown:
            lines.append(f"{'':8}… and {len(own) - shown} more")
    return "\n".join(lines)


def write_report(
    path: Path, catalog: Catalog, facts: Sequence[Facts], findings: Sequence[Finding]
) -> None:
    """Write ``audit.json``: every finding and every measured fact, in one step."""
    content = {
        "raw": str(catalog.root),
        "clips": len(facts),
        "kinds": KINDS,
        "findings": [dataclasses.asdict(finding) for finding in findings],
        "facts": [dataclasses.asdict(fact) for fact in facts],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_durably(path, json.dumps(content, indent=1).encode())
