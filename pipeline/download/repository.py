"""A corpus in the large files of a repository: fetched one after the other."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import NamedTuple

from pipeline import console
from pipeline.corpora.corpus import Corpus, GitLfs
from pipeline.download import lfs, transfer
from pipeline.download.choose import Selection
from pipeline.download.client import Client
from pipeline.errors import InputError


class Missing(NamedTuple):
    """Files of a corpus that are not there.

    Parameters
    ----------
    paths
        Below the repository, and below the corpus' folder.
    wanted
        How many are wanted in all.
    bytes
        About how large they are: the mean of their kind, since each pointer has to be read for
        its size.
    """

    paths: list[str]
    wanted: int
    bytes: int


def source_of(corpus: Corpus) -> GitLfs:
    """Return the repository of a corpus that has one."""
    assert isinstance(corpus.source, GitLfs)
    return corpus.source


def look(
    client: Client, server: str | None, corpus: Corpus, selection: Selection, folder: Path
) -> Missing:
    """Ask a server for the files of a corpus, and the disk for what is there already.

    Raises
    ------
    InputError
        If there is no such repository, or nothing of it is wanted.
    """
    source = source_of(corpus)
    kinds = source.folders[:1] if selection.audio_only else source.folders
    listed = lfs.list_folders(client, lfs.hosts(server), source, kinds)
    missing, wanted, size = [], 0, 0.0
    for (kind, names), kind_bytes in zip(listed.items(), source.folder_bytes, strict=False):
        paths = [f"{kind}/{name}" for name in names if selection.wants(corpus, f"{kind}/{name}")]
        # A file has its name only when it is whole.
        absent = [path for path in paths if not (folder / path).exists()]
        missing.append(absent)
        wanted += len(paths)
        size += len(absent) * kind_bytes / corpus.clips
    if not wanted:
        raise InputError(
            f"expected files of {corpus.title} with what was asked for, got none; ask for other "
            "actors"
        )
    # Audio and video of a take one after the other: an interrupted run leaves whole clips.
    pairs = itertools.zip_longest(*missing)
    paths = [path for pair in pairs for path in pair if path]
    return Missing(paths, wanted, round(size))


def bring(
    client: Client, server: str | None, corpus: Corpus, folder: Path, missing: Missing
) -> None:
    """Fetch every file that is missing.

    Raises
    ------
    InputError
        If a file cannot be had, or is another one.
    OSError
        If the disk refuses.
    """
    addresses = lfs.hosts(server)
    with console.bar(
        total=missing.wanted,
        initial=missing.wanted - len(missing.paths),
        desc=corpus.title,
        unit="file",
    ) as bar:
        for path in missing.paths:
            remote = lfs.read_pointer(client, addresses, source_of(corpus), path)
            transfer.fetch(client, remote, folder / path, lambda _: None)
            bar.update()
