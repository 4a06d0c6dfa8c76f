"""Is a cache still what was written? Reads all of it, names every fault; changes nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pipeline.cache import checksums, contents
from pipeline.cache.index import INDEX_NAME, ClipEntry, Index, ShardEntry, read_index
from pipeline.console import bar as progress_bar
from pipeline.errors import InputError
from pipeline.spec import FeatureSpec

READ_BYTES = 1 << 20
CACHE_NAME = "[0-9a-f]" * 16


@dataclass(frozen=True)
class Fault:
    """Something in a cache that is not as it was written.

    Parameters
    ----------
    file
        Name in the folder.
    reason
        What is wrong.
    row
        Position of the damaged row; None where it is not one row.
    clips
        Clips that cannot be read any more because of it.
    """

    file: str
    reason: str
    row: int | None = None
    clips: tuple[str, ...] = ()

    def __str__(self) -> str:
        place = self.file if self.row is None else f"{self.file} row {self.row}"
        lost = f"{len(self.clips)} clips" if len(self.clips) > 1 else "".join(self.clips)
        return f"{place}{', ' if lost else ''}{lost}: {self.reason}"


@dataclass(frozen=True)
class Report:
    """What was found in one cache.

    Parameters
    ----------
    folder
        The cache.
    spec
        What its numbers mean; None if nothing in it says so any more.
    index
        Its index; None if that is damaged or missing.
    rows, bytes
        How much was read.
    faults
        What is wrong with it.
    """

    folder: Path
    spec: FeatureSpec | None
    index: Index | None
    rows: int
    bytes: int
    faults: tuple[Fault, ...]

    @property
    def files(self) -> frozenset[str]:
        """Names of the files with a fault."""
        return frozenset(fault.file for fault in self.faults)


def caches(root: Path) -> list[Path]:
    """Folders of the caches that a path means: itself, or all those in it.

    Raises
    ------
    InputError
        If there is none.
    """
    if any(root.glob("actor-*.h5")) or (root / INDEX_NAME).is_file():
        return [root]
    found = [
        folder
        for folder in sorted(root.glob(CACHE_NAME))
        if any(folder.glob("actor-*.h5")) or (folder / INDEX_NAME).is_file()
    ]
    if not found:
        state = "no cache" if root.is_dir() else "nothing"
        raise InputError(f"expected a cache in {root}, got {state}; run 'make features' first")
    return found


def check_cache(folder: Path, progress: bool = True) -> Report:
    """Read a whole cache and compare it with its index.

    Without a sound index the shards are asked themselves, and their rows compared with the
    checksums in them.

    Parameters
    ----------
    folder
        The cache.
    progress
        Whether to show a bar over bytes.

    Returns
    -------
    Report
    """
    try:
        index = read_index(folder)
    except InputError as error:
        return check_without_index(folder, Fault(INDEX_NAME, str(error)))
    known = {shard.file for shard in index.shards}
    faults = [
        Fault(path.name, f"not in {INDEX_NAME}")
        for path in sorted(folder.glob("*.h5"))
        if path.name not in known
    ]
    faults += check_shards(index, progress)
    return Report(folder, index.spec, index, index.rows, index.bytes, tuple(faults))


def check_shards(index: Index, progress: bool = True) -> list[Fault]:
    """Read every shard of an index, from its first byte to its last."""
    faults: list[Fault] = []
    with progress_bar(
        total=index.bytes, desc="verify", unit="B", unit_scale=True, disable=not progress
    ) as bar:
        for shard in index.shards:
            clips = [clip for clip in index.clips if clip.shard == shard.file]
            faults += check_shard(index.folder, shard, clips, index.spec, bar.update)
    return faults


def check_shard(
    folder: Path,
    shard: ShardEntry,
    clips: Sequence[ClipEntry],
    spec: FeatureSpec,
    count: Callable[[int], object] = lambda length: None,
) -> list[Fault]:
    """Read one shard in one pass: SHA-256 of the file, CRC-32 of each row, then its columns.

    Parameters
    ----------
    folder
        The cache.
    shard, clips
        What the index says of it.
    spec
        What its rows mean.
    count
        Told the number of bytes after each read.

    Returns
    -------
    list of Fault
    """
    path = folder / shard.file
    everyone = tuple(clip.clip for clip in clips)
    try:
        size = path.stat().st_size
        if size != shard.bytes:
            return [Fault(shard.file, f"expected {shard.bytes} bytes, got {size}", clips=everyone)]
        with path.open("rb", buffering=0) as file:
            faults, sha256 = read_through(file, shard, clips, spec, count)
    except OSError as error:
        return [Fault(shard.file, f"cannot be read: {error.strerror}", clips=everyone)]
    if faults:
        return faults
    if sha256 != shard.sha256:
        return [Fault(shard.file, "other bytes outside of the rows' tensors, which are sound")]
    # The very bytes that were written: HDF5 may look at them.
    try:
        stated, held = contents.read_statement(path, spec)
    except InputError as error:
        return [Fault(shard.file, str(error), clips=everyone)]
    untimed = [
        dataclasses.replace(
            clip,
            sources=tuple(
                dataclasses.replace(source, modified_ns=contents.UNKNOWN_TIME)
                for source in clip.sources
            ),
        )
        for clip in clips
    ]
    if untimed != held or stated != dataclasses.replace(shard, sha256=""):
        return [Fault(shard.file, f"columns or attributes are not what {INDEX_NAME} says")]
    return []


def read_through(
    file: BinaryIO,
    shard: ShardEntry,
    clips: Sequence[ClipEntry],
    spec: FeatureSpec,
    count: Callable[[int], object],
) -> tuple[list[Fault], str]:
    """Read an open shard once; return the damaged rows and the SHA-256 of all bytes."""
    digest = hashlib.sha256()

    def take(length: int) -> bytearray:
        block = bytearray(length)
        view, place = memoryview(block), 0
        while place < length and (got := file.readinto(view[place:])):
            place += got
        digest.update(block)
        count(place)
        return block

    def skip(length: int) -> None:
        while length > 0:
            length -= len(take(min(length, READ_BYTES)))

    skip(shard.mfcc_offset)
    mfcc = memoryview(take(shard.rows * spec.mfcc_bytes))
    skip(shard.frames_offset - file.tell())
    faults = []
    for row, (clip, variant, known, written) in enumerate(expected_rows(clips, spec)):
        image = mfcc[row * spec.mfcc_bytes : (row + 1) * spec.mfcc_bytes]
        if zlib.crc32(take(spec.frames_bytes), zlib.crc32(image, known)) != written:
            reason = f"its {variant} row is not what was written"
            faults.append(Fault(shard.file, reason, row, (clip,)))
    skip(shard.bytes - file.tell())
    return faults, digest.hexdigest()


def expected_rows(
    clips: Sequence[ClipEntry], spec: FeatureSpec
) -> Iterator[tuple[str, str, int, int]]:
    """Clip, variant, identity and checksum of each row of a shard, in the order of its rows."""
    for clip in sorted(clips, key=lambda clip: clip.row):
        kinds = zip(spec.row_names, checksums.of_clip(clip, spec), clip.checksums, strict=True)
        for variant, known, written in kinds:
            yield clip.clip, variant, known, written


def check_without_index(folder: Path, first: Fault) -> Report:
    """Compare the shards of a folder with what they say themselves."""
    known = (FeatureSpec(), FeatureSpec.as_published())
    named = next((spec for spec in known if spec.digest == folder.name), None)
    spec = spec_of_shards(folder) or named
    faults, count, size = [first], 0, 0
    for path in sorted(folder.glob("*.h5")) if spec else ():
        try:
            shard, clips = contents.read_statement(path, spec)
        except InputError as error:
            faults.append(Fault(path.name, str(error)))
            continue
        count, size = count + shard.rows, size + shard.bytes
        for number, clip in enumerate(clips):
            row = number * len(spec.row_names)
            if clip is None:
                faults.append(Fault(path.name, "its columns contradict each other", row))
                continue
            try:
                for _ in checksums.read_clip(folder, shard, clip, spec):
                    row += 1
            except InputError as error:
                faults.append(Fault(path.name, str(error), row, (clip.clip,)))
    return Report(folder, spec, None, count, size, tuple(faults))


def spec_of_shards(folder: Path) -> FeatureSpec | None:
    """Return the spec that the first readable shard of a folder names; None if none does."""
    for path in sorted(folder.glob("*.h5")):
        try:
            with contents.open_shard(path) as file:
                spec = FeatureSpec.from_json(str(file.attrs["spec"]))
        except (InputError, *contents.DAMAGE_ERRORS):
            continue
        return spec
    return None
