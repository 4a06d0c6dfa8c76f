"""What the shards on disk say of themselves: the reader of :mod:`pipeline.cache.shards`' format."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import h5py
import numpy as np

from pipeline.cache import checksums
from pipeline.cache.entries import ClipEntry, ShardEntry, Source
from pipeline.cache.index import Index, read_index
from pipeline.cache.seal import MAKE_AGAIN, check_seal
from pipeline.corpora import sources
from pipeline.errors import InputError
from pipeline.spec import EMOTIONS, FeatureSpec

UNKNOWN_TIME = -1
TEXT = h5py.string_dtype("utf-8")
COLUMN_TYPES = {
    "label": np.int64,
    "clip": TEXT,
    "variant": TEXT,
    "face_found": np.bool_,
    "sources": TEXT,
    "checksum": np.uint32,
}
"""One value a row beside the tensors, in the order :meth:`ShardWriter.append` gives them."""

DAMAGE_ERRORS = (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError)
"""What h5py raises where a file is not laid out as a shard."""


def open_shard(path: Path, spec: FeatureSpec | None = None) -> h5py.File:
    """Open a shard for reading, refusing what this code did not write.

    Parameters
    ----------
    path
        A shard.
    spec
        What its rows have to mean; None accepts any spec.

    Raises
    ------
    InputError
        If it is damaged outside of its tensors, of another format version, or of another spec.
    """
    check_seal(path)
    try:
        file = h5py.File(path, "r")
    except DAMAGE_ERRORS as error:
        raise InputError(f"expected an HDF5 shard at {path}, got: {error}; {MAKE_AGAIN}") from error
    try:
        digest, meaning = str(file.attrs["digest"]), str(file.attrs["spec"])
    except DAMAGE_ERRORS as error:
        file.close()
        raise InputError(f"expected a shard in {path}, got: {error}; {MAKE_AGAIN}") from error
    if spec is not None and (digest, meaning) != (spec.digest, spec.to_json()):
        file.close()
        raise InputError(
            f"expected features of spec {spec.digest} in {path}, got {digest}; "
            "remove its folder and run 'make features' again"
        )
    return file


def describe_shard(path: Path, spec: FeatureSpec) -> tuple[ShardEntry, list[ClipEntry]]:
    """Read what a shard says of itself, as the index would record it, and check every row.

    Returns
    -------
    entry : ShardEntry
    clips : list of ClipEntry
        Those whose rows all are what was written.

    Raises
    ------
    InputError
        If it is not a complete shard of this spec.
    """
    entry, stated = read_statement(path, spec)
    clips = [
        clip for clip in stated if clip and checksums.is_intact(path.parent, entry, clip, spec)
    ]
    return dataclasses.replace(entry, sha256=sources.file_sha256(path)), clips


def read_statement(path: Path, spec: FeatureSpec) -> tuple[ShardEntry, list[ClipEntry | None]]:
    """Read what a shard says of itself, without its tensors.

    Returns
    -------
    entry : ShardEntry
        With an empty ``sha256``.
    clips : list of ClipEntry or None
        In the order of the rows; None where columns contradict each other.

    Raises
    ------
    InputError
        If it is not a complete shard of this spec.
    """
    with open_shard(path, spec) as file:
        try:
            entry, columns = read_layout(file, path, spec)
        except DAMAGE_ERRORS as error:
            raise InputError(
                f"expected a complete shard in {path}, got: {error}; {MAKE_AGAIN}"
            ) from error
    step = len(spec.row_names)
    groups = [
        {name: column[first : first + step] for name, column in columns.items()}
        for first in range(0, entry.rows, step)
    ]
    return entry, [
        clip_of_rows(entry, number * step, group, spec) for number, group in enumerate(groups)
    ]


def read_layout(
    file: h5py.File, path: Path, spec: FeatureSpec
) -> tuple[ShardEntry, dict[str, list]]:
    """Read where a shard's tensors lie, and its columns.

    Raises
    ------
    ValueError
        If they are not those of a shard; and whatever else h5py raises on damaged files.
    """
    mfcc, frames, size = file["mfcc"], file["frames"], path.stat().st_size
    count = len(frames)
    shapes = {"mfcc": (np.float32, spec.mfcc_shape), "frames": (np.uint8, spec.frames_shape)}
    shapes |= {name: (kind, ()) for name, kind in COLUMN_TYPES.items()}
    for name, (kind, shape) in shapes.items():
        # Before anything is read: a foreign shape may ask for absurd memory.
        if file[name].shape != (count, *shape) or file[name].dtype != kind:
            raise ValueError(f"{file[name].shape} {file[name].dtype} in /{name}")
    offsets = mfcc.id.get_offset(), frames.id.get_offset()
    if None in offsets:
        raise ValueError("tensors in chunks")
    ends = offsets[0] + mfcc.nbytes, offsets[1] + frames.nbytes
    if not (
        count and ends[0] <= offsets[1] and ends[1] <= size and count % len(spec.row_names) == 0
    ):
        raise ValueError(f"{count} rows that end at byte {ends[1]} of {size}")
    columns = {
        name: (file[name].asstr() if kind is TEXT else file[name])[:].tolist()
        for name, kind in COLUMN_TYPES.items()
    }
    actor = int(file.attrs["actor"])
    return ShardEntry(path.name, actor, count, size, "", *offsets), columns


def clip_of_rows(
    shard: ShardEntry, first: int, columns: dict[str, list], spec: FeatureSpec
) -> ClipEntry | None:
    """Make the entry of a clip from the columns of its rows; None if they contradict it."""
    shared = ("label", "clip", "face_found", "sources")
    label, clip, face_found, text = (columns[name][0] for name in shared)
    alike = all(len(set(columns[name])) == 1 for name in shared)
    if (
        not alike
        or tuple(columns["variant"]) != spec.row_names
        or label not in range(len(EMOTIONS))
    ):
        return None
    try:
        sources = tuple(Source(*values, modified_ns=UNKNOWN_TIME) for values in json.loads(text))
    except (ValueError, TypeError):
        return None
    return ClipEntry(
        clip,
        shard.actor,
        EMOTIONS[label],
        sources,
        shard.file,
        face_found,
        row=first,
        checksums=tuple(columns["checksum"]),
    )


def survey(folder: Path, spec: FeatureSpec) -> Index:
    """Say what a cache folder holds, finished or not.

    What ``index.json`` says is taken for shards that still have the recorded size; every other
    shard is asked itself, and passed over if it is not a complete one of this spec.
    """
    try:
        recorded = read_index(folder)
    except InputError:
        recorded = None
    if recorded is None or recorded.spec != spec:
        recorded = Index(folder, spec, (), (), {})
    known = {shard.file: shard for shard in recorded.shards}
    shards: list[ShardEntry] = []
    clips = [entry for entry in recorded.clips if entry.shard is None]
    for path in sorted(folder.glob("*.h5")):
        if path.name in known and path.stat().st_size == known[path.name].bytes:
            shards.append(known[path.name])
            clips += [entry for entry in recorded.clips if entry.shard == path.name]
            continue
        try:
            shard, held = describe_shard(path, spec)
        except InputError:
            continue
        shards.append(shard)
        clips += held
    by_actor = sorted(clips, key=lambda entry: (entry.actor, entry.clip))
    return Index(folder, spec, tuple(shards), tuple(by_actor), recorded.libraries)
