"""Archives to files: what is in them is checked before anything is written."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from pipeline import atomic
from pipeline.corpora.sources import printable
from pipeline.errors import InputError

CHUNK_BYTES = 1 << 20
LARGEST_RATIO = 20
"""Most bytes that a byte of an archive may become, all files together: media hardly shrink."""

SPARE_BYTES = 1 << 20
MAX_MEMBERS = 200_000
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError)
"""What :mod:`zipfile` raises for archives that are damaged or packed in a way it cannot read."""


def list_members(archive: Path) -> dict[str, int]:
    """List the files of an archive.

    Parameters
    ----------
    archive
        A zip file.

    Returns
    -------
    dict of str to int
        Path inside the archive to size in bytes.

    Raises
    ------
    InputError
        If it cannot be read, or holds a link, a name that leads out of the folder, two files of a
        name, or far more than its own size.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            found = opened.infolist()
    except BROKEN as error:
        raise refused(archive, f"what cannot be read ({error})") from error
    if len(found) > MAX_MEMBERS:
        raise refused(archive, f"{len(found)} files")
    members: dict[str, int] = {}
    for info in found:
        # The library cuts names at a zero byte and changes separators; what was written counts.
        if not is_safe(info.orig_filename) or not is_safe(info.filename):
            raise refused(archive, f"the name {printable(info.orig_filename[:100])!r}")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise refused(archive, f"{printable(info.filename)!r}, which is a link or a device")
        if info.flag_bits & 1:
            raise refused(archive, f"{printable(info.filename)!r}, which is encrypted")
        if info.is_dir():
            continue
        if info.filename in members:
            raise refused(archive, f"{printable(info.filename)!r} twice")
        members[info.filename] = info.file_size
    total, size = sum(members.values()), archive.stat().st_size
    if total > LARGEST_RATIO * size + SPARE_BYTES:
        raise refused(archive, f"{total} bytes of content in {size} bytes")
    return members


def is_safe(name: str) -> bool:
    """Whether a path inside an archive stays in the folder it is unpacked to, on any system."""
    odd = "\0" in name or "\\" in name or ":" in name or name.startswith("/")
    return bool(name) and not odd and ".." not in name.split("/")


def refused(archive: Path, what: str) -> InputError:
    """Say why nothing of an archive is unpacked."""
    return InputError(
        f"expected an archive of media files in {printable(archive)}, got {what}; nothing of it is "
        "unpacked: delete it, and repeat the command to fetch it again"
    )


def extract(
    archive: Path, members: dict[str, int], folder: Path, report: Callable[[int], object]
) -> None:
    """Write files of an archive; those that are there with their size are left as they are.

    Parameters
    ----------
    archive
        One that :func:`list_members` has checked.
    members
        Paths inside it, with sizes.
    folder
        What these paths are below.
    report
        Told of every byte.

    Raises
    ------
    InputError
        If the archive is damaged, or a place is taken by another file.
    OSError
        If the disk refuses.
    """
    for place in {(folder / name).parent for name in members}:
        for leftover in atomic.dead_leftovers(place):
            leftover.unlink()
    with zipfile.ZipFile(archive) as opened:
        for name, size in members.items():
            target = folder / name
            if target.exists():
                if not target.is_file() or target.stat().st_size != size:
                    raise InputError(
                        f"expected nothing, or {size} bytes, at {printable(target)}, got another "
                        "file; move it away"
                    )
                report(size)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic.replacing(target) as partial:
                try:
                    copy(opened, name, size, partial, report)
                except BROKEN as error:
                    raise refused(archive, f"{printable(name)!r} damaged ({error})") from error


def copy(
    opened: zipfile.ZipFile,
    name: str,
    size: int,
    target: Path,
    report: Callable[[int], object],
) -> None:
    """Write one file of an archive; the library compares its CRC at the end."""
    written = 0
    with opened.open(name) as source, target.open("wb") as stream:
        while block := source.read(CHUNK_BYTES):
            written += len(block)
            if written > size:
                raise zipfile.BadZipFile("longer than it says")
            stream.write(block)
            report(len(block))
    if written != size:
        raise zipfile.BadZipFile(f"{written} of {size} bytes")
