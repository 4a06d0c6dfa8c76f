"""One recording filed under two actors: it would be trained on and tested on at once."""

from __future__ import annotations

import hashlib

import numpy as np

from pipeline.cache import format as shard_format
from pipeline.cache.facts import ClipEntry
from pipeline.cache.index import Index
from train.data.rows import refuse_other_size


def across_actors(index: Index) -> list[tuple[ClipEntry, ...]]:
    """Find recordings that the cache holds under more than one actor.

    Two clips are one recording if a raw file of theirs has the same bytes, or if their clean MFCC
    images do: that is the same audio in another container, without loss. Silence is not compared.
    A copy that was encoded anew, or cut elsewhere, is not found.

    Parameters
    ----------
    index
        A finished cache.

    Returns
    -------
    list of tuple of ClipEntry
        Each recording's clips, sorted by actor and id. Nobody can tell which of the names is
        right, so none of them should be learned from; see :func:`left_out`.

    Raises
    ------
    InputError
        If a shard is missing.
    """
    holders: dict[str, set[ClipEntry]] = {}
    sounds = mfcc_digests(index)
    for entry in index.clips:
        contents = [source.sha256 for source in entry.sources]
        if entry.clip in sounds:
            contents.append(sounds[entry.clip])
        for content in contents:
            holders.setdefault(content, set()).add(entry)
    groups = {
        tuple(sorted(entries, key=lambda entry: (entry.actor, entry.clip)))
        for entries in holders.values()
        if len({entry.actor for entry in entries}) > 1
    }
    return sorted(groups, key=lambda group: [(entry.actor, entry.clip) for entry in group])


def mfcc_digests(index: Index) -> dict[str, str]:
    """SHA-256 of the clean MFCC image of each clip with audio that is not silent, by clip id."""
    digests = {}
    by_shard: dict[str, list[ClipEntry]] = {}
    for entry in index.clips:
        if entry.has_audio:
            by_shard.setdefault(entry.shard, []).append(entry)
    for shard, entries in by_shard.items():
        facts = index.shard_facts[shard]
        refuse_other_size(index.folder / shard, facts.bytes)
        with (index.folder / shard).open("rb") as file:
            for entry in entries:
                image = shard_format.read_tensor(
                    file.fileno(), facts.mfcc_offset, entry.row, index.spec.mfcc_shape, np.float32
                )
                sounding = image[:, image.any(axis=(0, 2))]
                # Silence has the same value in every column that holds any sound.
                if sounding.size and np.ptp(sounding, axis=1).any():
                    digests[entry.clip] = hashlib.sha256(image.tobytes()).hexdigest()
    return digests


def left_out(groups: list[tuple[ClipEntry, ...]]) -> frozenset[str]:
    """Ids of the clips that neither train nor validate: every copy, whoever it is filed under."""
    return frozenset(entry.clip for group in groups for entry in group)


def line(groups: list[tuple[ClipEntry, ...]], shown: int = 3) -> str:
    """Say in one line which clips are left out of training, and why."""
    named = [
        " = ".join(f"{entry.clip} (actor {entry.actor})" for entry in group)
        for group in groups[:shown]
    ]
    more = f" and {len(groups) - shown} more" if len(groups) > shown else ""
    return (
        f"left out of training and validation: {len(left_out(groups))} clips, because their "
        f"recording is filed under more than one actor: {'; '.join(named)}{more}"
    )
