"""The shard format, version 1: one HDF5 file of rows for each actor. Writer and reader."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
from pathlib import Path

import h5py
import numpy as np

from pipeline.catalog import Clip
from pipeline.errors import InputError
from pipeline.features import Features, Row
from pipeline.index import (
    FORMAT_VERSION,
    PARTIAL_SUFFIX,
    ClipEntry,
    Index,
    ShardEntry,
    Source,
    read_index,
)
from pipeline.spec import EMOTIONS, FeatureSpec

UNKNOWN_TIME = -1
TEXT = h5py.string_dtype("utf-8")
COLUMN_TYPES = {
    "label": np.int64,
    "clip": TEXT,
    "variant": TEXT,
    "face_found": np.bool_,
    "sources": TEXT,
}
"""One value a row beside the tensors, in the order :meth:`ShardWriter.append` gives them."""

HASH_BLOCK_BYTES = 1 << 20


class ShardWriter:
    """Context manager that writes one shard row by row under a temporary name.

    Leaving it normally completes the file, reads it back and gives it its own name; leaving it by
    an exception removes it. Tensors are laid out contiguously, so that readers may map them into
    memory.

    Parameters
    ----------
    path
        Final name.
    spec
        Shapes and meaning of the rows.
    actor
        The one actor of this shard.
    clips
        Most clips that will come.

    Attributes
    ----------
    entry
        The finished shard; None if no row came, and then there is no file.
    """

    def __init__(self, path: Path, spec: FeatureSpec, actor: int, clips: int) -> None:
        self.path, self.spec, self.actor = path, spec, actor
        self.partial = path.with_name(path.name + PARTIAL_SUFFIX)
        self.capacity = clips * (1 + len(spec.variants))
        self.columns: dict[str, list] = {name: [] for name in COLUMN_TYPES}
        self.entry: ShardEntry | None = None

    @property
    def rows(self) -> int:
        """Number of rows so far."""
        return len(self.columns["label"])

    def __enter__(self) -> ShardWriter:
        """Create the file."""
        self.file = self.create(self.partial, self.capacity)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Complete or remove the file."""
        try:
            if kind is None and self.rows:
                self.entry = self.finish()
        finally:
            self.file.close()
            self.partial.unlink(missing_ok=True)

    def create(self, path: Path, rows: int) -> h5py.File:
        """Create a file with room for the tensors of some rows."""
        file = h5py.File(path, "w")
        file.create_dataset("mfcc", (rows, *self.spec.mfcc_shape), np.float32)
        file.create_dataset("frames", (rows, *self.spec.frames_shape), np.uint8)
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["digest"] = self.spec.digest
        file.attrs["spec"] = self.spec.to_json()
        file.attrs["actor"] = self.actor
        return file

    def append(self, clip: Clip, sources: tuple[Source, ...], rows: list[Row]) -> None:
        """Add the rows of one clip."""
        contents = json.dumps([[source.path, source.bytes, source.sha256] for source in sources])
        for row in rows:
            self.file["mfcc"][self.rows] = row.features.mfcc
            self.file["frames"][self.rows] = row.features.frames
            values = (clip.label, clip.id, row.variant, row.face_found, contents)
            for column, value in zip(self.columns.values(), values, strict=True):
                column.append(value)

    def finish(self) -> ShardEntry:
        """Write the small columns, check the file, and rename it."""
        if self.rows < self.capacity:
            self.shrink()
        for name, kind in COLUMN_TYPES.items():
            self.file.create_dataset(name, data=self.columns[name], dtype=kind)
        self.file.close()
        entry, clips = describe_shard(self.partial, self.spec)
        if entry.rows != self.rows or clips[-1].clip != self.columns["clip"][-1]:
            raise OSError(errno.EIO, "the file does not read back as written", str(self.partial))
        os.replace(self.partial, self.path)
        return dataclasses.replace(entry, file=self.path.name)

    def shrink(self) -> None:
        """Copy the rows that came into a file without room for those that did not."""
        roomy = self.partial.with_name(self.partial.name + PARTIAL_SUFFIX)
        self.file.close()
        os.replace(self.partial, roomy)
        self.file = self.create(self.partial, self.rows)
        with h5py.File(roomy, "r") as source:
            for row in range(self.rows):
                for name in ("mfcc", "frames"):
                    self.file[name][row] = source[name][row]
        roomy.unlink()


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
        If it is not HDF5, of another format version, or of another spec.
    """
    try:
        file = h5py.File(path, "r")
    except FileNotFoundError as error:
        raise InputError(
            f"expected a shard at {path}, got nothing; run 'make features' again"
        ) from error
    except OSError as error:
        raise InputError(
            f"expected an HDF5 shard at {path}, got: {error}; "
            "remove it and run 'make features' again"
        ) from error
    version, digest = file.attrs.get("format_version"), file.attrs.get("digest")
    if version != FORMAT_VERSION:
        file.close()
        raise InputError(
            f"expected shard format {FORMAT_VERSION} in {path}, got {version}; "
            "remove its folder and run 'make features' again"
        )
    if spec is not None and digest != spec.digest:
        file.close()
        raise InputError(
            f"expected features of spec {spec.digest} in {path}, got {digest}; "
            "remove its folder and run 'make features' again"
        )
    return file


def describe_shard(path: Path, spec: FeatureSpec) -> tuple[ShardEntry, list[ClipEntry]]:
    """Read what a shard says of itself, as the index would record it.

    Raises
    ------
    InputError
        If it is not a complete shard of this spec.
    """
    with open_shard(path, spec) as file:
        try:
            columns = {
                name: (file[name].asstr() if kind is TEXT else file[name])[:].tolist()
                for name, kind in COLUMN_TYPES.items()
            }
            actor, rows = int(file.attrs["actor"]), len(file["frames"])
            sources = [
                tuple(Source(*values, modified_ns=UNKNOWN_TIME) for values in json.loads(text))
                for text in columns["sources"]
            ]
        except (KeyError, ValueError, TypeError, OSError) as error:
            raise InputError(
                f"expected a complete shard in {path}, got: {error}; "
                "remove it and run 'make features' again"
            ) from error
    clips = {
        clip: ClipEntry(clip, actor, EMOTIONS[label], made_from, path.name, face_found)
        for clip, label, made_from, face_found in zip(
            columns["clip"], columns["label"], sources, columns["face_found"], strict=True
        )
    }
    entry = ShardEntry(path.name, actor, rows, path.stat().st_size, file_sha256(path))
    return entry, list(clips.values())


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


def read_rows(file: h5py.File, clip: str) -> list[Row]:
    """Read the rows of one clip back from an open shard."""
    rows = np.flatnonzero(file["clip"].asstr()[:] == clip)
    return [
        Row(
            file["variant"].asstr()[row],
            Features(file["mfcc"][row], file["frames"][row]),
            bool(file["face_found"][row]),
        )
        for row in rows
    ]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
