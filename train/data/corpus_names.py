"""What the corpora of caches are called, and what is known of them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path, PurePath

from pipeline.cache.index import Index
from pipeline.corpora import known
from pipeline.corpora.corpus import TITLE_NAME, Corpus, title_of

LOOKED_AT = 1000
"""Files whose names tell which corpus a cache is of."""


def names_of(caches: Sequence[Index]) -> list[str]:
    """Name the corpus of each cache; a second one of a name gets a number."""
    names: list[str] = []
    for cache in caches:
        corpus = recognised(cache)
        folder = Path(cache.root).name or cache.folder.resolve().parent.name
        # Names stand before a colon, in lists divided by spaces.
        name = corpus.name if corpus else re.sub(r"[^\w.-]+", "_", folder) or "corpus"
        unique, number = name, 1
        while unique in names:
            number += 1
            unique = f"{name}_{number}"
        names.append(unique)
    return names


def recognised(cache: Index) -> Corpus | None:
    """Return the corpus whose names the files of a cache have, the first ones; None without one."""
    files = (PurePath(source.path) for entry in cache.entries for source in entry.sources)
    paths = list(itertools.islice(files, LOOKED_AT))
    counts = known.recognise(paths)
    found = [name for name, count in counts.items() if count == len(paths)]
    return known.CORPORA[found[0]] if len(found) == 1 else None


def title_in_words(cache: Index) -> str:
    """Say what one corpus is: its ``corpus.txt``, the title of a known one, or its folder."""
    root, corpus = Path(cache.root), recognised(cache)
    return corpus.title if corpus and not (root / TITLE_NAME).is_file() else title_of(root)


def licence_of(cache: Index) -> str | None:
    """Return the licence of a known corpus; None where a ``corpus.txt`` may mean other clips."""
    corpus = recognised(cache)
    return corpus.licence if corpus and not (Path(cache.root) / TITLE_NAME).is_file() else None
