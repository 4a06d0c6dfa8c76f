"""A raw folder to a catalogue: walk it, parse its names, pair the files of each take."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from pipeline.corpora import ravdess, sources, table
from pipeline.corpora.clip import Catalogue, Clip
from pipeline.errors import InputError

VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".flv", ".mpg", ".mpeg"}
AUDIO_SUFFIXES = {".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".opus"}
MEDIA_SUFFIXES = VIDEO_SUFFIXES | AUDIO_SUFFIXES

SYSTEM_FOLDERS = {"lost+found", "System Volume Information", "$RECYCLE.BIN"}
"""Folders at the root of a disk, which often may not be read and hold nobody's recordings."""

NamedFile = tuple[ravdess.Name, Path]


def scan(root: Path, channel: str | None = None, labels: Path | None = None) -> Catalogue:
    """List the clips of a raw folder.

    Parameters
    ----------
    root
        Folder with RAVDESS-named files at any depth, or with a ``clips.csv``.
    channel
        ``"speech"`` or ``"song"`` to keep only one; None keeps both. For RAVDESS names.
    labels
        Map of a user's words for emotions. For a ``clips.csv``.

    Returns
    -------
    Catalogue
        The same for any order in which the file system lists its entries. Nothing in ``root``
        that could not be reached is left out in silence, see ``unreachable``. If that is empty,
        there is at least one clip.

    Raises
    ------
    InputError
        If the folder does not exist or holds no clip, its ``clips.csv`` is wrong, or an option
        does not apply to it.
    """
    if not os.path.isdir(root):
        raise InputError(
            f"expected a folder of raw clips at {root}, got "
            f"{'a file' if os.path.exists(root) else 'nothing'}; {where_to_put_clips(root)}"
        )
    csv_path = root / table.CSV_NAME
    if os.path.isfile(csv_path):
        if channel:
            raise InputError(
                f"expected no channel with {csv_path}, got {channel!r}; channels are those of "
                "RAVDESS names: leave the option out, or the lines you do not want"
            )
        catalogue = table.read_table(csv_path, labels)
    else:
        if labels:
            raise InputError(
                f"expected {csv_path} for the labels of {labels}, got none; RAVDESS names need no "
                "labels: leave the option out, or list your clips"
            )
        catalogue = scan_names(root, channel)
    if not catalogue.clips and not catalogue.unreachable:
        raise InputError(
            f"expected clips in {root}, got none{set_aside(catalogue)}; {where_to_put_clips(root)}"
        )
    return catalogue


def where_to_put_clips(root: Path) -> str:
    """Remedy for a raw folder without clips."""
    return (
        f"put RAVDESS files anywhere below {root}, or a {table.CSV_NAME} "
        f"({','.join(table.CSV_COLUMNS)}) for your own data; 'make demo' needs neither"
    )


def set_aside(catalogue: Catalogue) -> str:
    """Say how many files are not clips, and why the first of them is none."""
    aside = [*catalogue.misplaced, *catalogue.unreadable]
    if not aside:
        return ""
    path, reason = aside[0]
    first = sources.printable(path.relative_to(catalogue.root))
    return f" but {len(aside)} media files set aside, such as {first}: {reason}"


def scan_names(root: Path, channel: str | None) -> Catalogue:
    """List the clips of a folder by their RAVDESS names."""
    catalogue = Catalogue(root)
    files, catalogue.unreachable = walk(root)
    named = parse_names(catalogue, files)
    if channel:
        code = ravdess.CHANNELS[channel]
        named = [(name, path) for name, path in named if name.channel == code]
    pair_takes(catalogue, named)
    return catalogue


def walk(root: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Find every media file below a folder; links are followed, a folder is entered once.

    Hidden files and folders are passed over.

    Returns
    -------
    files : list of Path
        Sorted within each folder.
    unreachable : list of (Path, str)
        Folders that could not be listed, and files and links that could not be followed, each with
        the system's reason.
    """
    files: list[Path] = []
    unreachable: list[tuple[Path, str]] = []
    entered: set[str] = set()

    def note(error: OSError) -> None:
        unreachable.append((Path(os.fsdecode(error.filename)), f"{error.strerror} (folder)"))

    for folder, subfolders, names in os.walk(root, onerror=note, followlinks=True):
        real = os.path.realpath(folder)
        if real in entered:
            subfolders.clear()
            continue
        entered.add(real)
        subfolders[:] = sorted(
            name for name in subfolders if not name.startswith(".") and name not in SYSTEM_FOLDERS
        )
        for name in sorted(names):
            if name.startswith("."):
                continue
            place = os.path.join(folder, name)
            try:
                os.stat(place)
            except OSError as error:
                # Whatever its name: a link that leads nowhere may have led to a folder of clips.
                unreachable.append((Path(place), reason_of(place, error)))
                continue
            if os.path.splitext(name)[1].lower() in MEDIA_SUFFIXES:
                files.append(Path(place))
    return files, sorted(unreachable)


def reason_of(place: str, error: OSError) -> str:
    """Say why an entry of a folder cannot be reached, and where it leads if it is a link."""
    try:
        target = os.readlink(place)
    except OSError:
        return error.strerror
    return f"{error.strerror} (symbolic link to {sources.printable(target)})"


def parse_names(catalogue: Catalogue, files: Iterable[Path]) -> list[NamedFile]:
    """Parse the names of media files; those that cannot be used go to the catalogue's lists."""
    named: list[NamedFile] = []
    actor_of: dict[Path, int | None] = {}
    for path in files:
        if not sources.is_utf8(str(path)):  # which the root alone may decide, and need not
            below = sources.relative_path(path, catalogue.root)
            if not sources.is_utf8(below):
                reason = f"expected a name in UTF-8, got {sources.printable(below)}; rename it"
                catalogue.unreadable.append((path, reason))
                continue
        try:
            name = ravdess.parse_name(path.stem)
        except ValueError as error:
            catalogue.unreadable.append((path, str(error)))
            continue
        folder = path.parent
        if folder not in actor_of:
            actor_of[folder] = actor_of_folder(folder, catalogue.root)
        if actor_of[folder] not in (None, int(name.actor)):
            reason = f"named actor {name.actor} but in a folder of actor {actor_of[folder]:02d}"
            catalogue.misplaced.append((path, reason))
            continue
        named.append((name, path))
    return named


def actor_of_folder(folder: Path, root: Path) -> int | None:
    """Actor that the nearest folder at or above ``folder`` is named after, None without one."""
    for part in reversed(folder.relative_to(root).parts):
        actor = ravdess.folder_actor(part)
        if actor is not None:
            return actor
    return None


def pair_takes(catalogue: Catalogue, named: Iterable[NamedFile]) -> None:
    """Make one clip of the files of each take: a video, an audio file, or both."""
    takes: dict[str, tuple[list[NamedFile], list[NamedFile]]] = {}
    for name, path in named:
        videos, audios = takes.setdefault(name.take, ([], []))
        (videos if path.suffix.lower() in VIDEO_SUFFIXES else audios).append((name, path))
    for take, (videos, audios) in takes.items():
        videos.sort(key=lambda file: (ravdess.VIDEO_PREFERENCE.index(file[0].modality), file[1]))
        audios.sort(key=lambda file: file[1])
        name = (videos or audios)[0][0]
        copies = [path for other, path in videos[1:] if other.modality == name.modality]
        copies += [path for _, path in audios[1:]]
        catalogue.duplicates += [(path, "another copy of the take") for path in copies]
        catalogue.clips.append(
            Clip(
                take,
                int(name.actor),
                name.emotion_name,
                videos[0][1] if videos else None,
                audios[0][1] if audios else None,
            )
        )
    catalogue.clips.sort(key=lambda clip: (clip.actor, clip.id))
    catalogue.duplicates.sort()
