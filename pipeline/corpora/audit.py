"""Raw data checked before it is trusted: what is missing, copied, misfiled, broken or odd."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.corpora import fingerprint, near_copies, ravdess, sources
from pipeline.corpora.actors import format_numbers
from pipeline.corpora.clip import Catalogue
from pipeline.corpora.facts import Facts
from pipeline.errors import MediaError
from pipeline.media import container

APART_SECONDS = 0.2
"""Audio and video of a take that differ more in length were not recorded together."""

CLIPPED_PART = 1e-3
"""A recording with more of its samples at full scale was too loud for its microphone."""

RATE_TOLERANCE = 0.01

KINDS = {
    "unreachable": "folders, links and files that cannot be opened; what they hold is unknown",
    "missing": "clips that RAVDESS has and the folder lacks",
    "unreadable": "clips that cannot be read",
    "misfiled": "files whose name and folder disagree about the actor",
    "copied across actors": "one recording under two actors; left out of training",
    "copied": "one recording under two names of an actor",
    "nearly copied across actors": "one recording, encoded anew, shifted or re-levelled, under two "
    "actors",
    "nearly copied": "one recording, encoded anew, shifted or re-levelled, under two names",
    "audio track missing": "videos whose name promises audio and that have no audio track",
    "apart": f"audio and video differ by more than {APART_SECONDS} s in length",
    "silent": "audio that never rises above -80 dB",
    "clipped": f"audio with more than {CLIPPED_PART:.1%} of its samples at full scale",
    "no face": "no face in the window; the centred square is cached",
    "other frame rate": "not the frame rate that most clips have",
    "uneven frames": "the time from frame to frame varies",
    "set aside": "files that are no clip",
    "audio track unexpected": "videos named as silent (02) that have an audio track",
    "no audio": "clips of video alone; their MFCCs are zeros",
    "no video": "clips of audio alone; their frames are zeros",
}
"""Every kind of finding with its meaning, the gravest first."""

NOTES = {"audio track unexpected", "no audio", "no video"}
"""Kinds that are no faults: a corpus may be meant so."""

COUNTED = {"missing", "no audio", "no video"}
"""Kinds with one finding for many clips."""

COPIES = {"copied", "copied across actors", "nearly copied", "nearly copied across actors"}

SELF_EXPLAINING = COUNTED | COPIES
"""Kinds whose details name the clips."""


@dataclass(frozen=True)
class Finding:
    """Something odd: its kind (a key of ``KINDS``), the clips or files, and the details."""

    kind: str
    names: tuple[str, ...]
    detail: str

    @property
    def line(self) -> str:
        """What was found, and where."""
        if self.kind in SELF_EXPLAINING:
            return self.detail
        return f"{self.names[0]}: {self.detail}"


def judge(catalogue: Catalogue, facts: Sequence[Facts]) -> list[Finding]:
    """Decide what is odd about a raw folder, the gravest kind first.

    Parameters
    ----------
    catalogue
        What the folder holds.
    facts
        Measured of each of its clips.

    Returns
    -------
    list of Finding
    """
    found = [
        *files_of("unreachable", catalogue.root, catalogue.unreachable),
        *missing(facts),
        *(
            Finding("unreadable", (fact.clip,), problem)
            for fact in facts
            for problem in fact.problems
        ),
        *files_of("misfiled", catalogue.root, catalogue.misplaced),
        *copies(facts),
        *copies_encoded_anew(facts),
        *odd_audio_tracks(catalogue, facts),
        *odd_audio(facts),
        *(
            Finding("no face", (fact.clip,), "no face in its window")
            for fact in facts
            if fact.face_found is False
        ),
        *odd_frames(facts),
        *files_of("set aside", catalogue.root, catalogue.unreadable),
        *files_of("set aside", catalogue.root, catalogue.duplicates),
        *without("no audio", facts, [fact.clip for fact in facts if not fact.has_audio]),
        *without("no video", facts, [fact.clip for fact in facts if not fact.has_video]),
    ]
    order = list(KINDS)
    return sorted(found, key=lambda finding: order.index(finding.kind))


def missing(facts: Iterable[Facts]) -> list[Finding]:
    """Compare a folder of RAVDESS names with RAVDESS: one finding for each channel."""
    present = {fact.clip for fact in facts}
    if not all(ravdess.TAKE_PATTERN.fullmatch(clip) for clip in present):
        return []
    found = []
    for channel, code in ravdess.CHANNELS.items():
        if not any(clip.startswith(f"{code}-") for clip in present):
            continue
        published = ravdess.published_takes(channel)
        absent = {
            actor: [clip for clip in clips if clip not in present]
            for actor, clips in published.items()
        }
        names = tuple(clip for clips in absent.values() for clip in clips)
        if names:
            total = sum(map(len, published.values()))
            whole = [actor for actor in absent if len(absent[actor]) == len(published[actor])]
            some = {actor: len(clips) for actor, clips in absent.items() if clips}
            parts = [f"all of actors {format_numbers(whole)}"] if whole else []
            parts += [f"{some[actor]} of actor {actor}" for actor in some if actor not in whole]
            detail = f"{len(names)} of {total} {channel} clips: {', '.join(parts)}"
            found.append(Finding("missing", names, detail))
    return found


def odd_audio_tracks(catalogue: Catalogue, facts: Iterable[Facts]) -> list[Finding]:
    """Find videos that lack the audio track of their RAVDESS name, or have one all the same."""
    videos = {clip.id: clip.video for clip in catalogue.clips}
    found = []
    for fact in facts:
        video, has_audio = videos.get(fact.clip), fact.video_has_audio
        if video is None or has_audio is None or not ravdess.NAME_PATTERN.fullmatch(video.stem):
            continue
        if has_audio != ravdess.promises_audio(video.stem):
            kind = "audio track unexpected" if has_audio else "audio track missing"
            said = f"{video.name} has {'an' if has_audio else 'no'} audio track"
            found.append(Finding(kind, (fact.clip,), said))
    return found


def without(kind: str, facts: Sequence[Facts], names: Sequence[str]) -> list[Finding]:
    """Report clips without one of both modalities in one finding: there may be thousands."""
    return [Finding(kind, tuple(names), f"{len(names)} of {len(facts)} clips")] if names else []


def copies(facts: Iterable[Facts]) -> list[Finding]:
    """Find recordings under several names, by the bytes of their files and by their samples."""
    holders: dict[tuple[str, str], dict[str, int]] = {}
    for fact in facts:
        contents = {("the same file", digest) for digest in fact.files.values()}
        if fact.audio_digest:
            contents.add(("the same audio", fact.audio_digest))
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


def copies_encoded_anew(facts: Sequence[Facts]) -> list[Finding]:
    """Find pairs of recordings that are alike but not the same, by their fingerprints."""
    prints = [fingerprint.from_text(fact.fingerprint) for fact in facts]
    found = []
    for pair in near_copies.near_copies(prints):
        one, other = facts[pair.first], facts[pair.second]
        if one.audio_digest == other.audio_digest:
            continue
        shift = (
            f"{abs(pair.offset_seconds):.2f} s {'later' if pair.offset_seconds > 0 else 'earlier'}"
        )
        detail = (
            f"{one.clip} = {other.clip}: {pair.error_rate:.1%} of the bits of their fingerprints "
            f"differ, {'not shifted' if not pair.offset_seconds else f'{shift} in the first'}"
        )
        across = " across actors" if one.actor != other.actor else ""
        found.append(Finding(f"nearly copied{across}", (one.clip, other.clip), detail))
    return found


def odd_audio(facts: Iterable[Facts]) -> list[Finding]:
    """Find silent and clipped audio, and audio of another length than its video."""
    found = []
    for fact in facts:
        if fact.peak is None:
            continue
        if fact.audio_digest is None:
            found.append(Finding("silent", (fact.clip,), f"peak {fact.peak:.6f}"))
        if fact.clipped_part > CLIPPED_PART:
            share = f"{fact.clipped_part:.2%} of the samples at full scale"
            found.append(Finding("clipped", (fact.clip,), share))
        audio, video = fact.audio_seconds, fact.video_seconds
        if audio is not None and video is not None and abs(audio - video) > APART_SECONDS:
            said = f"{audio:.2f} s of audio, {video:.2f} s of video"
            found.append(Finding("apart", (fact.clip,), said))
    return found


def odd_frames(facts: Sequence[Facts]) -> list[Finding]:
    """Find frame rates that differ from the corpus' own, and frames that come unevenly."""
    counts = Counter(round(fact.frame_rate, 2) for fact in facts if fact.frame_rate)
    if not counts:
        return []
    common = min(counts, key=lambda rate: (-counts[rate], rate))
    found = []
    for fact in facts:
        if fact.frame_rate and abs(fact.frame_rate / common - 1) > RATE_TOLERANCE:
            said = f"{fact.frame_rate:.2f} frames a second, most clips have {common:.2f}"
            found.append(Finding("other frame rate", (fact.clip,), said))
        if fact.uneven_gaps:
            said = f"{fact.uneven_gaps} gaps between frames are not the usual one"
            found.append(Finding("uneven frames", (fact.clip,), said))
    return found


def files_of(kind: str, root: Path, files: Iterable[tuple[Path, str]]) -> list[Finding]:
    """List files that are no clip: what they really are, or why they were set aside."""
    found = []
    for path, reason in files:
        if kind != "unreachable":
            try:
                container.refuse_unusable_file(path)
            except MediaError as error:
                reason = f"{reason}; {sources.printable(str(error))}"
        name = sources.printable(sources.relative_path(path, root))
        found.append(Finding(kind, (name,), reason))
    return found


def grouped(findings: Sequence[Finding]) -> list[tuple[str, list[Finding], int]]:
    """Group findings by kind, the gravest first, with how often each occurs."""
    groups = []
    for kind in KINDS:
        if own := [finding for finding in findings if finding.kind == kind]:
            counted = sum(len(finding.names) for finding in own) if kind in COUNTED else len(own)
            groups.append((kind, own, counted))
    return groups
