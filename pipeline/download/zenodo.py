"""The files of a Zenodo record."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from pipeline.download.client import Client
from pipeline.download.transfer import Remote
from pipeline.errors import InputError

SERVER = "https://zenodo.org"
CHECKSUM_PATTERN = re.compile(r"(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})", re.ASCII)
NAME_PATTERN = re.compile(r"[\w()+-][\w. ()+-]{0,200}", re.ASCII)


class Record(NamedTuple):
    """A published record: its version, and its files."""

    version: str
    files: tuple[Remote, ...]


def read_record(client: Client, server: str, number: int) -> Record:
    """Ask a server for the files of a record.

    Parameters
    ----------
    client
        Sends the request.
    server
        Its address, such as :data:`SERVER`.
    number
        Of the record.

    Raises
    ------
    InputError
        If the answer is no record, or names a file that cannot be checked or written.
    """
    url = f"{server}/api/records/{number}"
    try:
        record = json.loads(client.read(url))
        files = tuple(
            Remote(
                str(file["key"]),
                str(file["links"]["self"]),
                int(file["size"]),
                *checksum(str(file["checksum"])),
            )
            for file in record["files"]
        )
        version = str(record.get("metadata", {}).get("version", "unknown"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"expected a record with files, sizes and checksums at {url}, got another answer "
            f"({type(error).__name__}: {error}); check the address of the server"
        ) from error
    for file in files:
        if not NAME_PATTERN.fullmatch(file.name) or file.bytes < 0:
            raise InputError(
                f"expected plain names of files at {url}, got {file.name!r}; it is not fetched"
            )
    return Record(version, files)


def checksum(text: str) -> tuple[str, str]:
    """Split ``md5:…`` into the name of the hash and its value."""
    if not CHECKSUM_PATTERN.fullmatch(text):
        raise ValueError(f"checksum {text[:80]!r}")
    algorithm, _, digest = text.partition(":")
    return algorithm, digest
