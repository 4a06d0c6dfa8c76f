"""Address of the servers, which answer this machine alone, and the requests they refuse."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

HOST = "127.0.0.1"
LOCAL_NAMES = (HOST, "localhost")
OWN_SITES = (None, "same-origin", "none")


def is_foreign(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a page of another site asks: it may link here, but neither embed nor send anything.

    Parameters
    ----------
    method
        Such as ``"GET"``.
    headers
        Of the request, by their names in lower case.
    """
    origin, host = headers.get("origin"), headers.get("host", "")
    if origin is not None and urlsplit(origin).netloc != host:
        return True
    linked = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
    return headers.get("sec-fetch-site") not in OWN_SITES and not linked
