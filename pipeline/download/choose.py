"""What a user asks for of a corpus, and what has to be done for it: decided without doing it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

from pipeline.corpora.corpus import Archive, Corpus, Recording
from pipeline.corpora.pairing import AUDIO_SUFFIXES, MEDIA_SUFFIXES
from pipeline.download.transfer import Remote


@dataclass(frozen=True)
class Selection:
    """Which part of a corpus is wanted.

    Parameters
    ----------
    actors
        Their numbers; None for all.
    channel
        One part; None for all.
    audio_only
        Whether videos are left out.
    """

    actors: frozenset[int] | None = None
    channel: str | None = None
    audio_only: bool = False

    def wants_archive(self, archive: Archive) -> bool:
        """Whether an archive holds anything that is wanted."""
        return (
            (archive.is_audio or not self.audio_only)
            and self.channel in (None, archive.part or None)
            and (archive.actor is None or self.actors is None or archive.actor in self.actors)
        )

    def wants(self, corpus: Corpus, name: str) -> bool:
        """Whether a media file is wanted, by its path."""
        recording = recording_of(corpus, name)
        if recording is None or self.channel not in (None, recording.part or None):
            return False
        if self.audio_only and PurePosixPath(name).suffix.lower() not in AUDIO_SUFFIXES:
            return False
        # Numbers of actors begin at 1.
        number = corpus.speakers.get(recording.speaker or "", 0)
        return self.actors is None or number in self.actors


def recording_of(corpus: Corpus, name: str) -> Recording | None:
    """Read a path; None for what is no media file of the corpus."""
    path = PurePosixPath(name)
    if path.suffix.lower() not in MEDIA_SUFFIXES:
        return None
    try:
        return corpus.parse(path)
    except ValueError:
        return None


def useful(corpus: Corpus, members: Mapping[str, int]) -> dict[str, int]:
    """Keep the files of an archive that a scan would use: one of each take and kind.

    RAVDESS' videos are there twice, with audio and silent: the silent ones are left.
    """
    best: dict[tuple[str, bool], tuple[int, str]] = {}
    for name in members:
        recording = recording_of(corpus, name)
        if recording:
            is_audio = PurePosixPath(name).suffix.lower() in AUDIO_SUFFIXES
            key, ranked = (recording.take, is_audio), (recording.rank, name)
            best[key] = min(best.get(key, ranked), ranked)
    return {name: members[name] for _, name in sorted(best.values(), key=lambda found: found[1])}


class Receipt(NamedTuple):
    """What was written down of an archive that was unpacked: its digest, its useful files."""

    digest: str
    members: dict[str, int]


@dataclass(frozen=True)
class Step:
    """What is to be done about one archive.

    Parameters
    ----------
    remote, archive
        The archive, and what it holds.
    is_done
        Whether all that is wanted of it is there.
    here_bytes
        How much of the archive is there; all of it needs no transfer.
    """

    remote: Remote
    archive: Archive
    is_done: bool
    here_bytes: int

    @property
    def missing_bytes(self) -> int:
        """What has to be transferred."""
        return 0 if self.is_done else self.remote.bytes - self.here_bytes


def plan_steps(
    corpus: Corpus,
    selection: Selection,
    files: Iterable[tuple[Remote, Archive]],
    receipts: Mapping[str, Receipt],
    present: Mapping[str, int],
    arrived: Mapping[str, int],
) -> list[Step]:
    """Decide what to do about each archive that is wanted.

    Parameters
    ----------
    corpus, selection
        What is wanted.
    files
        Archives of the corpus.
    receipts
        By name of the archive, of those that were unpacked.
    present
        Sizes of the corpus' files that are there, by path in the archive.
    arrived
        Bytes that are there of each archive, whole or in part.
    """
    steps = []
    for remote, archive in files:
        if not selection.wants_archive(archive):
            continue
        receipt = receipts.get(remote.name)
        is_done = (
            receipt is not None
            and receipt.digest == remote.digest
            and all(
                present.get(name) == size
                for name, size in receipt.members.items()
                if selection.wants(corpus, name)
            )
        )
        here = min(arrived.get(remote.name, 0), remote.bytes)
        steps.append(Step(remote, archive, is_done, here))
    return steps


def peak_bytes(steps: Iterable[Step], keep: bool) -> int:
    """Most bytes that a disk has to have free: what is kept, and one archive at a time."""
    todo = [step for step in steps if not step.is_done]
    kept = [round(step.archive.kept * step.remote.bytes) for step in todo]
    if keep:
        return sum(kept) + sum(step.missing_bytes for step in todo)
    before = itertools.accumulate(kept, initial=0)
    return max(
        (
            done + own + step.missing_bytes
            for done, own, step in zip(before, kept, todo, strict=False)
        ),
        default=0,
    )
