"""The shard format, version 2: one HDF5 file of rows for each actor, written here.

Read by :mod:`pipeline.cache.contents`, and row by row by :mod:`pipeline.cache.checksums`.

``/mfcc`` and, after it, ``/frames`` are contiguous; ``/label``, ``/clip``, ``/variant``,
``/face_found`` and ``/sources`` say what a row is. ``/checksum``, uint32, is the CRC-32 of the
row: of the JSON ``[actor, label, clip, variant, face_found, sources]``, then of the bytes of its
MFCC, then of those of its frames. A clip's rows follow each other, the clean one first, then the
variants of the spec. Attributes: ``format_version``, ``digest``, ``spec``, ``actor``. The first 512
bytes are a user block with the seal of :mod:`pipeline.cache.seal`.
"""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path

import h5py
import numpy as np

from pipeline import atomic
from pipeline.atomic import PARTIAL_SUFFIX
from pipeline.cache import checksums
from pipeline.cache.contents import COLUMN_TYPES, describe_shard
from pipeline.cache.index import FORMAT_VERSION, ClipEntry, ShardEntry, Source
from pipeline.cache.seal import SEAL_BYTES, write_seal
from pipeline.corpora.catalogue import Clip
from pipeline.features.extract import Features, Row
from pipeline.spec import FeatureSpec


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
        self.under: atomic.PatientFile | None = None
        self.file: h5py.File | None = None

    @property
    def rows(self) -> int:
        """Number of rows so far."""
        return len(self.columns["label"])

    def __enter__(self) -> ShardWriter:
        """Create the file."""
        try:
            self.create(self.partial, self.capacity)
        except BaseException:
            self.close()
            self.remove_leftovers()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Complete or remove the file."""
        try:
            if kind is None and self.rows:
                self.entry = self.finish()
        finally:
            self.close()
            self.remove_leftovers()

    def create(self, path: Path, rows: int) -> None:
        """Create a file with room for the tensors of some rows."""
        self.under = atomic.PatientFile(path)
        with self.under.asked():
            self.file = h5py.File(self.under, "w", userblock_size=SEAL_BYTES)
            self.file.create_dataset("mfcc", (rows, *self.spec.mfcc_shape), np.float32)
            self.file.create_dataset("frames", (rows, *self.spec.frames_shape), np.uint8)
            self.file.attrs["format_version"] = FORMAT_VERSION
            self.file.attrs["digest"] = self.spec.digest
            self.file.attrs["spec"] = self.spec.to_json()
            self.file.attrs["actor"] = self.actor

    def close(self) -> None:
        """Close the file, and what lies under it."""
        with atomic.signals_held():
            if self.file:
                self.file.close()
            if self.under:
                self.under.close()

    def remove_leftovers(self) -> None:
        """Remove what did not become a shard."""
        for leftover in self.path.parent.glob(f"{self.path.name}*{PARTIAL_SUFFIX}"):
            leftover.unlink()

    def append(
        self, clip: Clip, sources: tuple[Source, ...], features: list[Row]
    ) -> tuple[int, ...]:
        """Add the rows of one clip and return their checksums."""
        contents = checksums.sources_text(sources)
        written = []
        for row in features:
            mfcc, frames = map(np.ascontiguousarray, row.features)
            identity = checksums.of_identity(
                clip.actor, clip.label, clip.id, row.variant, row.face_found, contents
            )
            written.append(checksums.of_row(identity, mfcc, frames))
            with self.under.asked():
                self.file["mfcc"][self.rows] = mfcc
                self.file["frames"][self.rows] = frames
            values = (clip.label, clip.id, row.variant, row.face_found, contents, written[-1])
            for column, value in zip(self.columns.values(), values, strict=True):
                column.append(value)
        return tuple(written)

    def finish(self) -> ShardEntry:
        """Write the small columns, check the file, and rename it."""
        if self.rows < self.capacity:
            self.shrink()
        with self.under.asked():
            for name, kind in COLUMN_TYPES.items():
                self.file.create_dataset(name, data=self.columns[name], dtype=kind)
            start, end = self.file["mfcc"].id.get_offset(), self.file["frames"].id.get_offset()
            end += self.file["frames"].nbytes
            self.close()
        write_seal(self.partial, start, end)
        entry, clips = describe_shard(self.partial, self.spec)
        kept = [number for clip in clips for number in clip.checksums]
        if entry.rows != self.rows or kept != self.columns["checksum"]:
            raise OSError(errno.EIO, "the file does not read back as written", str(self.partial))
        atomic.replace_durably(self.partial, self.path)
        return dataclasses.replace(entry, file=self.path.name)

    def shrink(self) -> None:
        """Copy the rows that came into a file without room for those that did not."""
        roomy = self.partial.with_name(self.partial.name + PARTIAL_SUFFIX)
        with self.under.asked():
            self.close()
        os.replace(self.partial, roomy)
        self.create(self.partial, self.rows)
        with h5py.File(roomy, "r") as source:
            for row in range(self.rows):
                with self.under.asked():
                    for name in ("mfcc", "frames"):
                        self.file[name][row] = source[name][row]
        roomy.unlink()


def read_rows(folder: Path, shard: ShardEntry, clip: ClipEntry, spec: FeatureSpec) -> list[Row]:
    """Read the rows of one clip back, as they were extracted.

    Raises
    ------
    InputError
        If a row is not what was written; the message names file, row and clip.
    """
    return [
        Row(row.variant, Features(row.mfcc, row.frames), clip.face_found)
        for row in checksums.read_clip(folder, shard, clip, spec)
    ]
