"""Every corpus that is recognised by the names of its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from pipeline.corpora import crema_d, iemocap, meld, ravdess, savee, subesco
from pipeline.corpora.corpus import Corpus, WrongFolder

CORPORA = {
    module.CORPUS.name: module.CORPUS
    for module in (ravdess, crema_d, savee, subesco, iemocap, meld)
}


def is_of(corpus: Corpus, path: PurePath) -> bool:
    """Whether a file has a name of this corpus."""
    try:
        corpus.parse(path)
    except ValueError as error:
        return isinstance(error, WrongFolder)
    return True


def recognise(paths: Sequence[PurePath]) -> dict[str, int]:
    """Count the files that are named as each corpus names its own.

    Parameters
    ----------
    paths
        Paths below a raw folder.

    Returns
    -------
    dict of str to int
        By name of the corpus, without those that have none.
    """
    counts = {name: sum(is_of(corpus, path) for path in paths) for name, corpus in CORPORA.items()}
    return {name: count for name, count in counts.items() if count}
