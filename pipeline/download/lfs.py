"""The large files of a repository on GitHub, one at a time: its archive holds pointers alone."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote

from pipeline.corpora.corpus import GitLfs
from pipeline.download.client import Client
from pipeline.download.transfer import Remote
from pipeline.errors import InputError

POINTER_PATTERN = re.compile(
    rb"version https://git-lfs\S*\noid sha256:([0-9a-f]{64})\nsize (\d{1,15})\n"
)
NAME_PATTERN = re.compile(r"[\w-][\w.-]{0,200}", re.ASCII)


class Hosts(NamedTuple):
    """Addresses of what a repository consists of: lists, pointers, contents."""

    api: str = "https://api.github.com"
    raw: str = "https://raw.githubusercontent.com"
    media: str = "https://media.githubusercontent.com/media"


def hosts(server: str | None) -> Hosts:
    """Return GitHub's own addresses, or those of a server that answers for all of them."""
    return Hosts(server, f"{server}/raw", f"{server}/media") if server else Hosts()


def list_folders(
    client: Client, addresses: Hosts, source: GitLfs, folders: Sequence[str]
) -> dict[str, list[str]]:
    """List the names of the files in folders of a repository.

    Raises
    ------
    InputError
        If the answer is no list, or not a whole one.
    """
    trees = f"{addresses.api}/repos/{source.repository}/git/trees"
    top = read_tree(client, f"{trees}/{source.branch}")
    if absent := set(folders) - set(top):
        raise InputError(
            f"expected the folders {', '.join(folders)} in {source.repository}, got none of "
            f"{', '.join(absent)}; they may have moved"
        )
    return {
        folder: sorted(filter(NAME_PATTERN.fullmatch, read_tree(client, f"{trees}/{top[folder]}")))
        for folder in folders
    }


def read_tree(client: Client, url: str) -> dict[str, str]:
    """Read one level of a repository: names, each with its hash."""
    try:
        answer = json.loads(client.read(url))
        found = {str(entry["path"]): str(entry["sha"]) for entry in answer["tree"]}
        is_whole = not answer.get("truncated")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"expected a list of files at {url}, got another answer ({type(error).__name__}: "
            f"{error}); check the address of the server"
        ) from error
    if not is_whole:
        raise InputError(f"expected a whole list of files at {url}, got a part; try again later")
    return found


def read_pointer(client: Client, addresses: Hosts, source: GitLfs, path: str) -> Remote:
    """Read size and checksum of a large file.

    Raises
    ------
    InputError
        If there is no pointer at this path.
    """
    place = f"{source.repository}/{source.branch}/{quote(path)}"
    content = client.read(f"{addresses.raw}/{place}")
    match = POINTER_PATTERN.fullmatch(content)
    if not match:
        raise InputError(
            f"expected a pointer to a large file at {addresses.raw}/{place}, got "
            f"{content[:40]!r}; the repository has changed"
        )
    name = path.rpartition("/")[2]
    url = f"{addresses.media}/{place}"
    return Remote(name, url, int(match[2]), "sha256", match[1].decode())
