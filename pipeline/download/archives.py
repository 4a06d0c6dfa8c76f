"""A corpus in the archives of a record: fetched one after the other, unpacked, deleted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline import atomic, console
from pipeline.corpora.corpus import Corpus, Zenodo
from pipeline.download import choose, transfer, unpack, zenodo
from pipeline.download.choose import Receipt, Selection, Step
from pipeline.download.client import Client
from pipeline.download.transfer import NOTE_SUFFIX, PART_SUFFIX
from pipeline.errors import InputError

FOLDER = "archives"
"""Where archives lie while they are needed, and a receipt of each that was unpacked."""

RECEIPT_SUFFIX = ".receipt.json"

FETCHED_SUFFIX = ".fetched"
"""Beside an archive that goes once it is unpacked: no other is deleted."""


def source_of(corpus: Corpus) -> Zenodo:
    """Return the record of a corpus that has one."""
    assert isinstance(corpus.source, Zenodo)
    return corpus.source


def look(
    client: Client, server: str | None, corpus: Corpus, selection: Selection, folder: Path
) -> tuple[str, list[Step]]:
    """Ask a server for the files of a corpus, and the disk for what is there already.

    Returns
    -------
    version : str
        Of the record.
    steps : list of Step
        One for each archive that is wanted, by name.

    Raises
    ------
    InputError
        If there is no such record, or nothing of it is wanted.
    """
    source = source_of(corpus)
    record = zenodo.read_record(client, server or zenodo.SERVER, source.record)
    files = [
        (remote, archive)
        for remote in sorted(record.files, key=lambda remote: remote.name)
        if (archive := source.archive(remote.name))
    ]
    receipts = {
        remote.name: receipt
        for remote, _ in files
        if (receipt := read_receipt(receipt_path(folder, remote.name)))
    }
    names = {name for receipt in receipts.values() for name in receipt.members}
    present = {name: transfer.part_bytes(folder / name) for name in names}
    arrived = {remote.name: arrived_bytes(folder / FOLDER / remote.name) for remote, _ in files}
    steps = choose.plan_steps(corpus, selection, files, receipts, present, arrived)
    if not steps:
        held = ", ".join(remote.name for remote, _ in files[:3]) or "no archive"
        raise InputError(
            f"expected archives of {corpus.title} with what was asked for, got {held} …; ask for "
            "other actors, or another channel"
        )
    return record.version, steps


def arrived_bytes(path: Path) -> int:
    """Bytes that are there of an archive, whole or in part."""
    if path.exists():
        return path.stat().st_size
    part, note = (path.with_name(path.name + suffix) for suffix in (PART_SUFFIX, NOTE_SUFFIX))
    return transfer.part_bytes(part) if note.exists() else 0


def receipt_path(folder: Path, name: str) -> Path:
    """Where the receipt of an archive lies."""
    return folder / FOLDER / f"{name}{RECEIPT_SUFFIX}"


def read_receipt(path: Path) -> Receipt | None:
    """Read a receipt; None where there is no usable one, and the archive is fetched again."""
    try:
        content = json.loads(path.read_bytes())
        members = {str(name): int(size) for name, size in content["members"].items()}
        return Receipt(str(content["digest"]), members)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def bring(
    client: Client,
    corpus: Corpus,
    selection: Selection,
    folder: Path,
    steps: Iterable[Step],
    keep: bool,
) -> None:
    """Fetch and unpack every archive that is not done, and delete what was fetched for that.

    Parameters
    ----------
    client
        Sends the requests.
    corpus, selection
        What is wanted of each archive.
    folder
        Of the corpus.
    steps
        What :func:`look` has decided.
    keep
        Whether the archives stay. Those that were kept, or that a user put there, always do.

    Raises
    ------
    InputError
        If an archive cannot be had, is another one, or is refused.
    OSError
        If the disk refuses.
    """
    for step in steps:
        path = folder / FOLDER / step.remote.name
        fetched = path.with_name(path.name + FETCHED_SUFFIX)
        if not step.is_done:
            if path.exists():
                refuse_another(step, path)
            else:
                with archive_bar(step.remote.name, step.remote.bytes, step.here_bytes) as bar:
                    transfer.fetch(client, step.remote, path, counting(bar))
                fetched.touch()
            members = choose.useful(corpus, unpack.list_members(path))
            wanted = {name: size for name, size in members.items() if selection.wants(corpus, name)}
            with archive_bar(f"unpack {step.remote.name}", sum(wanted.values())) as bar:
                unpack.extract(path, wanted, folder, bar.update)
            receipt = {"digest": step.remote.digest, "members": members}
            content = json.dumps(receipt, indent=1).encode()
            atomic.write_durably(receipt_path(folder, step.remote.name), content)
        if fetched.exists() and not keep:
            path.unlink(missing_ok=True)
        fetched.unlink(missing_ok=True)


def refuse_another(step: Step, path: Path) -> None:
    """Raise where a file has an archive's name and is another one."""
    if not transfer.is_right(step.remote, path):
        raise InputError(
            f"expected {step.remote.algorithm} {step.remote.digest} of {path}, got another file; "
            "move it away, and repeat the command"
        )


def archive_bar(name: str, total: int, here: int = 0) -> console.tqdm.tqdm:
    """Show a bar of bytes with the time that remains."""
    return console.bar(total=total, initial=here, desc=name, unit="B", unit_scale=True)


def counting(bar: console.tqdm.tqdm) -> Callable[[int], object]:
    """Return a report of bytes whose first call says what is there, which the bar has counted."""
    counted = bar.n

    def report(count: int) -> None:
        nonlocal counted
        bar.update(count - counted)
        counted = 0

    return report
