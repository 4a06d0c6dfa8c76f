"""``python -m pipeline data``: what it shows, asks and does."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import filelock

from pipeline import console
from pipeline.corpora import known, scan
from pipeline.corpora.actors import format_actors
from pipeline.corpora.corpus import Corpus, Zenodo
from pipeline.corpora.sources import printable
from pipeline.download import archives, choose, repository
from pipeline.download.choose import Selection
from pipeline.download.client import Client
from pipeline.errors import InputError


def run(arguments: argparse.Namespace) -> int:
    """Fetch a corpus and say what is there then."""
    corpus = known.CORPORA[arguments.corpus]
    selection = selection_of(arguments, corpus)
    folder = arguments.raw / corpus.name
    print(f"{corpus.title}\nlicence: {corpus.licence}\ncite: {corpus.citation}")
    if corpus.source is None:
        raise InputError(
            f"expected a corpus that can be fetched, got {corpus.title}; {corpus.how_to_get}, put "
            f"it below {printable(folder)}, and run 'make features RAW={printable(folder)}'"
        )
    print(f"more: {corpus.how_to_get}")
    client = Client()
    if isinstance(corpus.source, Zenodo):
        bring_archives(arguments, client, corpus, selection, folder)
    else:
        bring_files(arguments, client, corpus, selection, folder)
    found = scan.scan(folder, getattr(arguments, "channel", None), corpus=corpus)
    files = ", ".join(
        f"{count} with {what}" for what, count in found.file_counts().items() if count
    )
    print(
        f"{printable(folder)}: {len(found.clips)} clips of {len(found.actors)} actors: {files}\n"
        f"next: make features RAW={printable(folder)}"
    )
    return 0


def selection_of(arguments: argparse.Namespace, corpus: Corpus) -> Selection:
    """Say what is wanted of a corpus, as the arguments ask for."""
    channel = getattr(arguments, "channel", None)
    if channel and channel not in corpus.parts:
        raise InputError(
            f"expected no channel with {corpus.title}, got {channel!r}; leave the option out"
        )
    actors = arguments.actors and frozenset(arguments.actors)
    if unknown := (actors or frozenset()) - set(corpus.speakers.values()):
        raise InputError(
            f"expected actors {format_actors(list(corpus.speakers.values()))} of {corpus.title}, "
            f"got {format_actors(list(unknown))}; name others"
        )
    return Selection(actors or None, channel, arguments.audio_only)


def bring_archives(
    arguments: argparse.Namespace,
    client: Client,
    corpus: Corpus,
    selection: Selection,
    folder: Path,
) -> None:
    """Show the archives of a record, ask, and fetch them."""
    version, steps = archives.look(client, arguments.server, corpus, selection, folder)
    print(f"from Zenodo record {archives.source_of(corpus).record}, version {version}:")
    width = max(len(step.remote.name) for step in steps)
    for step in steps:
        print(
            f"  {step.remote.name:{width}}  {console.size_text(step.remote.bytes):>9}{state(step)}"
        )
    todo = [step for step in steps if not step.is_done]
    if todo:
        missing = sum(step.missing_bytes for step in todo)
        need = choose.peak_bytes(steps, arguments.keep)
        confirm(arguments.yes, f"{len(todo)} archives", missing, need, folder)
    with alone(folder):
        archives.bring(client, corpus, selection, folder, steps, arguments.keep)


def bring_files(
    arguments: argparse.Namespace,
    client: Client,
    corpus: Corpus,
    selection: Selection,
    folder: Path,
) -> None:
    """Show how many files of a repository are missing, ask, and fetch them."""
    left = repository.look(client, arguments.server, corpus, selection, folder)
    here = left.wanted - len(left.paths)
    named = repository.source_of(corpus).repository
    print(f"from github.com/{named}: {left.wanted} files, {here} of them here")
    if left.paths:
        confirm(arguments.yes, f"{len(left.paths)} files", left.bytes, left.bytes, folder)
        with alone(folder):
            repository.bring(client, arguments.server, corpus, folder, left)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a corpus' folder, so that two runs do not write one file."""
    held = folder / archives.FOLDER
    held.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(held / ".lock", timeout=0):
            yield
    except filelock.Timeout as error:
        raise InputError(
            f"expected no other run in {printable(folder)}, got one; let it end"
        ) from error


def state(step: choose.Step) -> str:
    """Say what is there of an archive."""
    if step.is_done:
        return "  unpacked"
    return f"  {console.size_text(step.here_bytes)} here" if step.here_bytes else ""


def confirm(yes: bool, what: str, missing: int, need: int, folder: Path) -> None:
    """Show sizes, and go on only if there is room and the user agrees.

    Raises
    ------
    InputError
        If there is not enough room, the answer is no, or nobody can answer.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    print(
        f"to fetch: {what}, {console.size_text(missing)}; needs about {console.size_text(need)} of "
        f"{console.size_text(free)} free at {printable(folder)}"
    )
    if need > free:
        raise InputError(
            f"expected about {console.size_text(need)} of room at {printable(folder)}, got "
            f"{console.size_text(free)}; free some, ask for fewer actors, or name another folder"
        )
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError("expected an answer, got no terminal; --yes (make: YES=1) answers")
    try:
        answer = input("fetch? [y/N] ").strip().lower()
    except EOFError:
        answer = ""
    if answer not in ("y", "yes"):
        raise InputError("expected yes, got no; nothing was fetched")
