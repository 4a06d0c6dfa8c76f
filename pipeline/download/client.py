"""Requests to a server: its limits are kept, what passes is tried again, the rest is one line."""

from __future__ import annotations

import email.utils
import logging
import time
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

import requests
import urllib3

from pipeline.errors import InputError

log = logging.getLogger(__name__)

USER_AGENT = "emotion-feature-cache/0.1"
"""Servers slow down, or refuse, the name that the library gives itself."""

TIMEOUT_SECONDS = (10.0, 60.0)
"""To connect, and from one part of an answer to the next."""

ATTEMPTS = 5
"""Attempts in a row that may bring nothing."""

LONGEST_PAUSE_SECONDS = 3600.0
BACKOFF_SECONDS = 60.0
MAX_DOCUMENT_BYTES = 32 << 20

TRANSIENT = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
    urllib3.exceptions.HTTPError,
)
Answer = TypeVar("Answer")


class Interrupted(Exception):
    """An attempt ended early; another may succeed.

    Parameters
    ----------
    reason
        Why.
    brought
        Whether it brought anything.
    pause_seconds
        How long the server asks to wait; None if it does not say.
    """

    def __init__(
        self, reason: str, brought: bool = False, pause_seconds: float | None = None
    ) -> None:
        super().__init__(reason)
        self.brought = brought
        self.pause_seconds = pause_seconds


class Client:
    """Sends one request at a time.

    Parameters
    ----------
    sleep, clock
        Stand-ins for tests.
    """

    def __init__(
        self,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.sleep, self.clock = sleep, clock
        self.session = requests.Session()
        self.session.headers.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})
        self.next_request: dict[str, float] = {}

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> requests.Response:
        """Send one request; the answer's body is read by the caller, who closes it.

        Returns
        -------
        requests.Response
            With status 200, 206 or 416.

        Raises
        ------
        Interrupted
            If there is no answer, or the server is busy.
        InputError
            If there is nothing to be had.
        """
        host = urlsplit(url).netloc
        self.pause(self.next_request.pop(host, 0.0) - self.clock(), host)
        try:
            response = self.session.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS)
        except TRANSIENT as error:
            raise Interrupted(reason_of(error)) from error
        except requests.RequestException as error:
            raise InputError(
                f"expected an answer from {url}, got: {reason_of(error)}; check the address"
            ) from error
        reset = reset_seconds(response.headers, self.clock())
        if response.headers.get("X-RateLimit-Remaining") == "0" and reset:
            self.next_request[host] = self.clock() + reset
        if response.status_code in (200, 206, 416):
            return response
        response.close()
        status = f"HTTP {response.status_code} {response.reason}".strip()
        limited = is_limit(response)
        if limited or response.status_code == 408 or response.status_code >= 500:
            asked = retry_after_seconds(response.headers, self.clock())
            until_reset = reset if limited else None
            raise Interrupted(status, pause_seconds=until_reset if asked is None else asked)
        raise InputError(
            f"expected {url}, got {status}; check the address, or whether the corpus has moved"
        )

    def pause(self, seconds: float, host: str) -> None:
        """Wait as long as a server asks for.

        Raises
        ------
        InputError
            If that is longer than an hour.
        """
        if seconds <= 0:
            return
        if seconds > LONGEST_PAUSE_SECONDS:
            raise InputError(
                f"expected {host} to answer within an hour, got a request to wait "
                f"{seconds / 60:.0f} minutes; repeat the command then, it goes on from there"
            )
        if seconds > 1:
            log.warning("%s: waiting %.0f s", host, seconds)
        self.sleep(seconds)

    def retrying(self, url: str, attempt: Callable[[], Answer]) -> Answer:
        """Attempt something until it succeeds, or brings nothing too often.

        Raises
        ------
        InputError
            After five attempts in a row without anything.
        """
        failures = 0
        while True:
            try:
                return attempt()
            except Interrupted as error:
                failures = 1 if error.brought else failures + 1
                if failures >= ATTEMPTS:
                    raise InputError(
                        f"expected {url}, got: {error} ({ATTEMPTS} times in a row); repeat the "
                        "command later, it goes on from there"
                    ) from error
                asked = error.pause_seconds
                backoff = min(BACKOFF_SECONDS, 2.0 ** (failures - 1))
                self.pause(backoff if asked is None else asked, urlsplit(url).netloc)

    def read(self, url: str) -> bytes:
        """Read a small document whole, such as a list of files.

        Raises
        ------
        InputError
            If it cannot be had, or is large.
        """

        def attempt() -> bytes:
            content = b""
            with self.get(url) as response:
                try:
                    for block in response.iter_content(1 << 20):
                        content += block
                        if len(content) > MAX_DOCUMENT_BYTES:
                            raise InputError(
                                f"expected a list of files at {url}, got more than "
                                f"{MAX_DOCUMENT_BYTES >> 20} MiB; check the address"
                            )
                except TRANSIENT as error:
                    raise Interrupted(reason_of(error)) from error
            return content

        return self.retrying(url, attempt)


def is_limit(response: requests.Response) -> bool:
    """Whether an answer says that there were too many requests; GitHub says so by 403 too."""
    headers = response.headers
    return response.status_code == 429 or (
        response.status_code == 403
        and (headers.get("X-RateLimit-Remaining") == "0" or "Retry-After" in headers)
    )


def retry_after_seconds(headers: Mapping[str, str], now: float) -> float | None:
    """Read ``Retry-After``, seconds or a date; None without a usable one."""
    text = headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def reset_seconds(headers: Mapping[str, str], now: float) -> float | None:
    """Read ``X-RateLimit-Reset``, in seconds since 1970; None without a usable one."""
    text = headers.get("X-RateLimit-Reset", "").strip()
    return max(0.0, float(text) - now) if text.isdecimal() else None


def reason_of(error: BaseException) -> str:
    """Say in a few words why a request failed: what the system said, without the layers above."""
    while error.__context__ is not None:
        error = error.__context__
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())
