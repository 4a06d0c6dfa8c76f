"""Files of a corpus to clips: parse their names, look up labels, pair the files of each take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pipeline.corpora import actors, sources
from pipeline.corpora.clip import Catalogue, Clip
from pipeline.corpora.corpus import Corpus, Entry, Recording, WrongFolder

VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".flv", ".mpg", ".mpeg"}
AUDIO_SUFFIXES = {".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".opus"}
MEDIA_SUFFIXES = VIDEO_SUFFIXES | AUDIO_SUFFIXES

NamedFile = tuple[Recording, Path]


def fill(
    catalogue: Catalogue,
    corpus: Corpus,
    files: Iterable[Path],
    tables: Sequence[Path],
    channel: str | None = None,
) -> None:
    """Make clips of the media files of a corpus, and list those that are none.

    Parameters
    ----------
    catalogue
        Gets clips, lists and the actors' names.
    corpus
        Says what the names mean.
    files, tables
        Media files, and the files that may be its tables.
    channel
        One part of the corpus; None for all.
    """
    named = parse_names(catalogue, corpus, files)
    if channel:
        named = [(recording, path) for recording, path in named if recording.part == channel]
    entries = corpus.read_tables(tables) if corpus.read_tables else {}
    named = look_up(catalogue, corpus, named, entries)
    numbers, catalogue.actor_names = number_speakers(corpus, named, entries)
    pair_takes(catalogue, corpus, named, numbers)


def parse_names(catalogue: Catalogue, corpus: Corpus, files: Iterable[Path]) -> list[NamedFile]:
    """Parse the names of media files; those that cannot be used go to the catalogue's lists."""
    named = []
    for path in files:
        if not sources.is_utf8(str(path)):  # which the root alone may decide, and need not
            below = sources.relative_path(path, catalogue.root)
            if not sources.is_utf8(below):
                reason = f"expected a name in UTF-8, got {sources.printable(below)}; rename it"
                catalogue.unreadable.append((path, reason))
                continue
        try:
            recording = corpus.parse(path.relative_to(catalogue.root))
        except WrongFolder as error:
            catalogue.misplaced.append((path, str(error)))
            continue
        except ValueError as error:
            catalogue.unreadable.append((path, str(error)))
            continue
        if path.name in corpus.damaged:
            reason = f"damaged as published: {corpus.damaged[path.name]}"
            catalogue.unreadable.append((path, reason))
            continue
        named.append((recording, path))
    return named


def look_up(
    catalogue: Catalogue,
    corpus: Corpus,
    named: Iterable[NamedFile],
    entries: Mapping[str, Entry],
) -> list[NamedFile]:
    """Add what a corpus' tables say; files without a usable speaker and label are set aside."""
    known = []
    for recording, path in named:
        if corpus.read_tables:
            entry = entries.get(recording.take)
            if entry is None:
                reason = f"{recording.take} is not in {corpus.tables_are}"
                catalogue.unreadable.append((path, reason))
                continue
            speaker = recording.speaker if entry.speaker is None else entry.speaker
            recording = recording._replace(speaker=speaker, word=entry.word)
        if recording.word not in corpus.labels:
            meaning = corpus.left_out.get(recording.word, "a word that is not known")
            reason = f"its label {recording.word!r} ({meaning}) is none of the eight emotions"
            catalogue.unreadable.append((path, reason))
        elif not recording.speaker:
            catalogue.unreadable.append((path, "several actors speak"))
        else:
            known.append((recording, path))
    return known


def number_speakers(
    corpus: Corpus, named: Sequence[NamedFile], entries: Mapping[str, Entry]
) -> tuple[dict[str, int], dict[int, str]]:
    """Give each speaker a number: the corpus' own, or the place in its tables or among the takes.

    Parameters
    ----------
    corpus, named
        The corpus, and its files that are used.
    entries
        What its tables say, of all takes in their order; empty without tables.

    Returns
    -------
    numbers : dict of str to int
        By the corpus' name of the speaker.
    names : dict of int to str
        Of the speakers who occur and whose name is not the number.
    """
    of_takes = [recording.speaker for recording, _ in sorted(named)]
    if corpus.speakers:
        numbers = dict(corpus.speakers)
        names = {numbers[name]: name for name in of_takes if name.lstrip("0") != str(numbers[name])}
        return numbers, names
    tabled = [entry.speaker for entry in entries.values() if entry.speaker]
    order = list(dict.fromkeys(tabled or of_takes))
    numbered, names = actors.number_names(order)
    numbers = dict(zip(order, numbered, strict=True))
    present = {numbers[name] for name in of_takes}
    return numbers, {number: name for number, name in names.items() if number in present}


def pair_takes(
    catalogue: Catalogue, corpus: Corpus, named: Iterable[NamedFile], numbers: Mapping[str, int]
) -> None:
    """Make one clip of the files of each take: a video, an audio file, or both."""
    takes: dict[str, tuple[list[NamedFile], list[NamedFile]]] = {}
    for recording, path in named:
        videos, audios = takes.setdefault(recording.take, ([], []))
        (videos if path.suffix.lower() in VIDEO_SUFFIXES else audios).append((recording, path))
    for take, (videos, audios) in takes.items():
        for files in (videos, audios):
            files.sort(key=lambda file: (file[0].rank, file[1]))
            # A file of another rank is another version, which a corpus may well hold.
            copies = [path for other, path in files[1:] if other.rank == files[0][0].rank]
            catalogue.duplicates += [(path, "another copy of the take") for path in copies]
        recording, _ = (videos or audios)[0]
        catalogue.clips.append(
            Clip(
                take,
                numbers[recording.speaker],
                corpus.labels[recording.word],
                videos[0][1] if videos else None,
                audios[0][1] if audios else None,
            )
        )
    catalogue.clips.sort(key=lambda clip: (clip.actor, clip.id))
    catalogue.duplicates.sort()
