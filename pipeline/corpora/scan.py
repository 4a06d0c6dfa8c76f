"""A raw folder to a catalogue: walk it, recognise the corpus, pair the files of each take."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from pipeline.corpora import emotions, folders, known, pairing, ravdess, sources, table
from pipeline.corpora.clip import Catalogue
from pipeline.corpora.corpus import Corpus
from pipeline.corpora.pairing import MEDIA_SUFFIXES
from pipeline.errors import InputError

TABLE_SUFFIXES = {".csv", ".txt"}

AUTO = "auto"
"""Word for the corpus that the names of the files tell."""

SYSTEM_FOLDERS = {"lost+found", "System Volume Information", "$RECYCLE.BIN"}
"""Folders at the root of a disk, which often may not be read and hold nobody's recordings."""


def scan(
    root: Path,
    channel: str | None = None,
    labels: Path | None = None,
    corpus: str | Corpus = AUTO,
    speaker: str | None = None,
) -> Catalogue:
    """List the clips of a raw folder.

    Parameters
    ----------
    root
        Folder with the files of a corpus at any depth, or with a ``clips.csv``.
    channel
        One part of a corpus that has parts, such as ``"speech"``; None keeps all.
    labels
        Map of a user's words for emotions. For a ``clips.csv``, and for folders of emotions.
    corpus
        A corpus or its name; :data:`AUTO` recognises it by the names of the files.
    speaker
        Regular expression for the speaker, see :mod:`pipeline.corpora.folders`.

    Returns
    -------
    Catalogue
        The same for any order in which the file system lists its entries. Nothing in ``root``
        that could not be reached is left out in silence, see ``unreachable``. If that is empty,
        there is at least one clip.

    Raises
    ------
    InputError
        If the folder does not exist or holds no clip, or those of several corpora; if a table is
        wrong; if an option does not apply.
    """
    if not os.path.isdir(root):
        raise InputError(
            f"expected a folder of raw clips at {root}, got "
            f"{'a file' if os.path.exists(root) else 'nothing'}; {where_to_put_clips(root)}"
        )
    csv_path = root / table.CSV_NAME
    if os.path.isfile(csv_path) and corpus == AUTO:
        refuse_options(csv_path, channel, speaker)
        catalogue = table.read_table(csv_path, labels)
    else:
        catalogue = scan_names(root, channel, labels, corpus, speaker)
    if not catalogue.clips and not catalogue.unreachable:
        raise InputError(
            f"expected clips in {root}, got none{set_aside(catalogue)}; {where_to_put_clips(root)}"
        )
    return catalogue


def refuse_options(csv_path: Path, channel: str | None, speaker: str | None) -> None:
    """Raise for options that would have no effect on a table of clips."""
    if channel:
        raise InputError(
            f"expected no channel with {csv_path}, got {channel!r}; channels are those of "
            "RAVDESS names: leave the option out, or the lines you do not want"
        )
    if speaker:
        raise InputError(
            f"expected no rule for the speaker with {csv_path}, got {speaker!r}; its column "
            "'actor' says who speaks: leave the option out"
        )


def where_to_put_clips(root: Path) -> str:
    """Remedy for a raw folder without clips."""
    return (
        f"put the files of a corpus ({', '.join(known.CORPORA)}) anywhere below {root}, or a "
        f"{table.CSV_NAME} ({','.join(table.CSV_COLUMNS)}) for your own data; 'make data' fetches "
        "RAVDESS, 'make demo' needs no data"
    )


def set_aside(catalogue: Catalogue) -> str:
    """Say how many files are not clips, and why the first of them is none."""
    aside = [*catalogue.misplaced, *catalogue.unreadable]
    if not aside:
        return ""
    path, reason = aside[0]
    first = sources.printable(path.relative_to(catalogue.root))
    return f" but {len(aside)} media files set aside, such as {first}: {reason}"


def scan_names(
    root: Path,
    channel: str | None,
    labels: Path | None,
    wanted: str | Corpus,
    speaker: str | None,
) -> Catalogue:
    """List the clips of a folder by the names of its files."""
    walked, unreachable = walk(root, MEDIA_SUFFIXES | TABLE_SUFFIXES)
    files = [path for path in walked if path.suffix.lower() in MEDIA_SUFFIXES]
    tables = [path for path in walked if path.suffix.lower() in TABLE_SUFFIXES]
    corpus = choose(root, files, wanted, labels, speaker)
    if channel and channel not in corpus.parts:
        raise InputError(
            f"expected no channel with {corpus.title}, got {channel!r}; leave the option out"
        )
    catalogue = Catalogue(
        root, unreachable=unreachable, corpus=corpus.title, published=corpus.clips
    )
    pairing.fill(catalogue, corpus, files, tables, channel)
    return catalogue


def choose(
    root: Path,
    files: Sequence[Path],
    wanted: str | Corpus,
    labels: Path | None,
    speaker: str | None,
) -> Corpus:
    """Return the corpus that is asked for, or the one whose names the files have.

    Raises
    ------
    InputError
        If the files are those of several corpora, or an option does not apply.
    """
    if isinstance(wanted, Corpus):
        return wanted
    name = wanted if wanted != AUTO else recognised(root, files, labels, speaker)
    if name == folders.NAME:
        if speaker is None:
            raise InputError(
                f"expected a rule for the speaker with folders of emotions in {root}, got none; "
                "give --speaker (make: SPEAKER=) a regular expression with one group, such as "
                "'/([a-z]+)_', or list the clips in a clips.csv"
            )
        words = emotions.known_words() if labels is None else emotions.read_labels(labels)
        return folders.corpus(words, speaker)
    title = known.CORPORA[name].title
    if labels:
        raise InputError(
            f"expected {root / table.CSV_NAME} for the labels of {labels}, got none; {title} names "
            "need no labels: leave the option out, or list your clips"
        )
    if speaker:
        raise InputError(
            f"expected no rule for the speaker with {title}, got {speaker!r}; its names say who "
            "speaks: leave the option out, or choose another corpus"
        )
    return known.CORPORA[name]


def recognised(root: Path, files: Sequence[Path], labels: Path | None, speaker: str | None) -> str:
    """Name the corpus whose names the files have; RAVDESS where they have those of none."""
    below = [path.relative_to(root) for path in files]
    counts = known.recognise(below)
    if len(counts) > 1:
        found = ", ".join(f"{count} files of {name}" for name, count in counts.items())
        raise InputError(
            f"expected one corpus in {root}, got {found}; name the folder of one, or choose one "
            "with --corpus (make: CORPUS=)"
        )
    if counts:
        return next(iter(counts))
    words = emotions.known_words() if labels is None else emotions.read_labels(labels)
    by_folder = folders.corpus(words, None)
    if speaker is not None or any(known.is_of(by_folder, path) for path in below):
        return folders.NAME
    return ravdess.CORPUS.name


def other_corpora(catalogue: Catalogue, corpus: str) -> list[str]:
    """Name the corpora beside the chosen one that files which were set aside have names of."""
    below = [path.relative_to(catalogue.root) for path, _ in catalogue.unreadable]
    return [name for name in known.recognise(below) if name != corpus]


def walk(
    root: Path, suffixes: Collection[str] = MEDIA_SUFFIXES
) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Find every file of some kinds below a folder; links are followed, a folder is entered once.

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
            if os.path.splitext(name)[1].lower() in suffixes:
                files.append(Path(place))
    return files, sorted(unreachable)


def reason_of(place: str, error: OSError) -> str:
    """Say why an entry of a folder cannot be reached, and where it leads if it is a link."""
    try:
        target = os.readlink(place)
    except OSError:
        return str(error.strerror)
    return f"{error.strerror} (symbolic link to {sources.printable(target)})"
