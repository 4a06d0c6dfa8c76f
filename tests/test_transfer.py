"""One file over HTTP, from a server on the loopback address that does everything wrong."""

import email.utils
import errno
import hashlib
import json
import random
import resource
import subprocess

import corpus_server
import pytest
from corpus_server import body, cut, status

from pipeline.download import transfer
from pipeline.download.client import ATTEMPTS, USER_AGENT, Client
from pipeline.errors import STORAGE_ERRNOS, InputError

pytestmark = pytest.mark.torture
CONTENT = random.Random(0).randbytes(3 * transfer.CHUNK_BYTES + 777)
PATH = "/files/a.zip"
NOW = 1_800_000_000.0


@pytest.fixture
def shelf(monkeypatch):
    """A server with one file."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    shelf = corpus_server.Shelf()
    stop = corpus_server.serve(shelf)
    shelf.files[PATH] = CONTENT
    yield shelf
    stop()


@pytest.fixture
def fetch(shelf, tmp_path):
    """Fetches the file; waiting takes no time, and is noted."""

    class Fetch:
        def __init__(self):
            self.slept, self.reported, self.now = [], 0, NOW
            self.path = tmp_path / "a.zip"
            self.part = tmp_path / "a.zip.part"

        def sleep(self, seconds):
            self.slept.append(seconds)
            self.now += seconds

        def __call__(self, content=CONTENT):
            remote = transfer.Remote(
                "a.zip", shelf.url + PATH, len(content), "md5", hashlib.md5(content).hexdigest()
            )
            self.reported = 0
            client = Client(self.sleep, lambda: self.now)
            transfer.fetch(client, remote, self.path, self.report)

        def report(self, count):
            self.reported += count

        def leave_part(self, share=0.4, digest=None, etag=None, content=CONTENT):
            count = int(share * len(content))
            self.part.write_bytes(content[:count])
            md5 = hashlib.md5(CONTENT).hexdigest()
            note = {"digest": digest or md5, "etag": f'"{md5}"' if etag is None else etag}
            self.path.with_name("a.zip.part.json").write_text(json.dumps(note))
            return count

    return Fetch()


def assert_whole(fetch):
    """The right bytes, and nothing else beside them."""
    assert fetch.path.read_bytes() == CONTENT
    assert fetch.reported == len(CONTENT)
    assert [path.name for path in fetch.path.parent.iterdir()] == ["a.zip"]


def assert_one_line(fetch, *words, content=CONTENT):
    """An error of one line, and no file under its final name."""
    with pytest.raises(InputError) as caught:
        fetch(content)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("expected ")
    for word in words:
        assert word in str(caught.value)
    assert not fetch.path.exists()


def test_a_file_that_comes_at_once(fetch, shelf):
    fetch()
    assert_whole(fetch)
    ((_, headers),) = shelf.requests
    assert headers["User-Agent"] == USER_AGENT and "requests" not in USER_AGENT
    assert headers["Accept-Encoding"] == "identity" and "Range" not in headers


@pytest.mark.parametrize("etags", [True, False])
def test_resume_in_mid_file(fetch, shelf, etags):
    shelf.etags = etags
    count = fetch.leave_part(etag=None if etags else "")
    fetch()
    assert_whole(fetch)
    assert shelf.fetched("a.zip") == [count]
    assert ("If-Range" in shelf.requests[0][1]) == etags


def test_a_part_that_is_all_of_it_needs_no_request(fetch, shelf):
    fetch.leave_part(share=1.0)
    fetch()
    assert_whole(fetch)
    assert not shelf.requests


def test_a_server_that_ignores_range(fetch, shelf):
    shelf.ranges = False
    count = fetch.leave_part()
    fetch()
    assert_whole(fetch)
    assert shelf.fetched("a.zip") == [count]


def test_a_file_that_has_changed_on_the_server_begins_again(fetch, shelf):
    count = fetch.leave_part(etag='"another"', content=b"x" * len(CONTENT))
    fetch()
    assert_whole(fetch)
    assert shelf.fetched("a.zip") == [count]


@pytest.mark.parametrize("note", ["digest", "none", "rubbish"])
def test_a_part_of_another_file_begins_again(fetch, shelf, note):
    fetch.leave_part(digest="0" * 32 if note == "digest" else None, content=b"x" * len(CONTENT))
    if note != "digest":
        path = fetch.path.with_name("a.zip.part.json")
        path.write_text("[1, 2") if note == "rubbish" else path.unlink()
    fetch()
    assert_whole(fetch)
    assert shelf.fetched("a.zip") == [0]


def test_a_part_that_is_too_long_begins_again(fetch, shelf):
    fetch.leave_part(share=2.0, content=CONTENT * 2)
    fetch()
    assert_whole(fetch)


def test_a_part_that_was_damaged_is_fetched_once_more(fetch, shelf):
    """As after a power cut: the part has its length and not its content."""
    count = fetch.leave_part(content=b"\0" * len(CONTENT))
    fetch()
    assert_whole(fetch)
    assert shelf.fetched("a.zip") == [count, 0]


@pytest.mark.parametrize(
    "content_range",
    [
        "bytes 0-{last}/{size}",
        "bytes {wrong}-{last}/{size}",
        "bytes {here}-{last}/5",
        "rubbish",
        "",
    ],
)
def test_a_range_that_was_not_asked_for(fetch, shelf, content_range):
    count = fetch.leave_part()
    size = len(CONTENT)
    said = content_range.format(here=count, wrong=count + 1, last=size - 1, size=size)
    shelf.faults[PATH] = [body(CONTENT[count:], 206, Content_Range=said)]
    fetch()
    assert_whole(fetch)
    assert shelf.fetched("a.zip") == [count, 0]


def chunked(handler, content):
    """Without a length, as some proxies send."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for start in range(0, len(content), 500_000):
        part = content[start : start + 500_000]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
    handler.wfile.write(b"0\r\n\r\n")


def until_it_hangs_up(handler, content):
    """Without a length, and without saying that it ends early."""
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(content[:2_000_000])
    handler.close_connection = True


def test_answers_without_a_length(fetch, shelf):
    shelf.faults[PATH] = [until_it_hangs_up, status(416), chunked]
    fetch()
    assert_whole(fetch)
    assert shelf.fetched("a.zip") == [0, 2_000_000, 0]


def test_a_redirect_keeps_the_range(fetch, shelf):
    count = fetch.leave_part()
    shelf.files["/elsewhere"] = CONTENT
    shelf.faults[PATH] = [status(302, Location=f"{shelf.url}/elsewhere")]
    fetch()
    assert_whole(fetch)
    assert [headers["Range"] for _, headers in shelf.requests] == [f"bytes={count}-"] * 2


def test_compressed_against_the_request(fetch, shelf):
    shelf.faults[PATH] = [body(CONTENT, Content_Encoding="gzip")]
    fetch()
    assert_whole(fetch)


def test_a_range_that_is_refused(fetch, shelf):
    count = fetch.leave_part()
    shelf.faults[PATH] = [status(416)]
    fetch()
    assert_whole(fetch)
    assert shelf.fetched("a.zip") == [count, 0]


@pytest.mark.parametrize("tenth", range(10))
def test_a_connection_that_is_cut_goes_on_from_there(fetch, shelf, tenth):
    after = tenth * len(CONTENT) // 10
    shelf.faults[PATH] = [cut(after)]
    fetch()
    assert_whole(fetch)
    assert shelf.fetched("a.zip") == [0, after] and fetch.slept == [1.0]


def test_ten_cuts_in_one_transfer(fetch, shelf):
    tenth = len(CONTENT) // 10 + 1
    shelf.faults[PATH] = [cut(tenth) for _ in range(9)]
    fetch()
    assert_whole(fetch)
    assert shelf.fetched("a.zip") == [tenth * place for place in range(10)]


def test_a_connection_that_is_reset(fetch, shelf):
    shelf.faults[PATH] = [
        lambda handler, content: handler.answer(content, limit=2 * transfer.CHUNK_BYTES + 5)
    ]
    fetch()
    assert_whole(fetch)
    began = shelf.fetched("a.zip")
    assert began[0] == 0 and len(began) == 2


def test_cuts_that_bring_nothing_end_in_one_line(fetch, shelf):
    fetch.leave_part()
    shelf.faults[PATH] = [cut(0) for _ in range(ATTEMPTS)]
    assert_one_line(fetch, "times in a row", "goes on from there")
    assert fetch.slept == [1.0, 2.0, 4.0, 8.0] and fetch.part.exists()
    fetch()
    assert_whole(fetch)


def test_nobody_listens(fetch, shelf):
    for fault in (status(204), status(301, Location="http://127.0.0.1:1/")):
        shelf.faults[PATH] = [fault] * ATTEMPTS
        assert_one_line(fetch, "127.0.0.1")


def test_a_wrong_checksum(fetch, shelf):
    shelf.files[PATH] = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    assert_one_line(fetch, "expected md5", "twice")
    assert shelf.fetched("a.zip") == [0, 0] and not fetch.part.exists()


def test_a_file_that_is_too_short(fetch, shelf):
    shelf.files[PATH] = CONTENT[:-100]
    assert_one_line(fetch, f"the end after {len(CONTENT) - 100} of {len(CONTENT)} bytes")


def test_a_file_that_is_too_long(fetch, shelf):
    shelf.files[PATH] = CONTENT + b"x"
    assert_one_line(fetch, f"expected {len(CONTENT)} bytes of a.zip, got more")


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410])
def test_what_is_not_there_is_not_asked_for_again(fetch, shelf, code):
    shelf.faults[PATH] = [status(code, X_RateLimit_Remaining=9)]
    assert_one_line(fetch, f"HTTP {code}", PATH)
    assert len(shelf.requests) == 1


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        (status(503), 1.0),
        (status(500), 1.0),
        (status(503, Retry_After=7), 7.0),
        (status(429, Retry_After=30), 30.0),
        (status(429, Retry_After=email.utils.formatdate(NOW + 90, usegmt=True)), 90.0),
        (status(429, Retry_After="soon"), 1.0),
        (status(429, X_RateLimit_Reset=int(NOW) + 41), 41.0),
        (status(429, X_RateLimit_Reset=int(NOW) + 41, Retry_After=5), 5.0),
        (status(429), 1.0),
        (status(403, X_RateLimit_Remaining=0, X_RateLimit_Reset=int(NOW) + 41), 41.0),
        (status(403, Retry_After=30), 30.0),
    ],
)
def test_a_busy_server_is_waited_for(fetch, shelf, fault, seconds):
    shelf.faults[PATH] = [fault]
    fetch()
    assert_whole(fetch)
    assert fetch.slept == [seconds]


def test_a_server_that_stays_busy_ends_in_one_line(fetch, shelf):
    shelf.faults[PATH] = [status(503, Retry_After=2) for _ in range(ATTEMPTS)]
    assert_one_line(fetch, "HTTP 503", "5 times in a row")
    assert len(shelf.requests) == ATTEMPTS


def test_hours_are_not_waited_for(fetch, shelf):
    shelf.faults[PATH] = [status(429, Retry_After=7300)]
    assert_one_line(fetch, "wait 122 minutes")
    assert not fetch.slept


def test_the_last_request_of_a_minute_makes_the_next_one_wait(fetch, shelf):
    limit = {"X_RateLimit_Remaining": 0, "X_RateLimit_Reset": int(NOW) + 20}
    shelf.faults[PATH] = [body(CONTENT, **limit)]
    client = Client(fetch.sleep, lambda: fetch.now)
    assert client.read(shelf.url + PATH) == CONTENT and not fetch.slept
    assert client.read(shelf.url + PATH) == CONTENT and fetch.slept == [20.0]
    client.read(shelf.url + PATH)
    assert fetch.slept == [20.0]


# A disk that refuses


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.9999])
def test_a_file_that_cannot_grow_is_continued_later(fetch, shelf, share):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = max(1000, int(share * len(CONTENT)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(OSError) as caught:
            fetch()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG and str(caught.value.filename) == str(fetch.part)
    assert not fetch.path.exists()
    held = fetch.part.stat().st_size
    assert held <= limit
    shelf.requests.clear()
    fetch()
    assert_whole(fetch)
    assert shelf.fetched("a.zip") == [held]


def test_a_full_disk(fetch, shelf, tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    made = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", place]
    if subprocess.run(made, check=False, capture_output=True).returncode:
        pytest.skip("no permission to mount a file system")
    try:
        fetch.path, fetch.part = place / "a.zip", place / "a.zip.part"
        with pytest.raises(OSError) as caught:
            fetch()
        assert caught.value.errno == errno.ENOSPC and errno.ENOSPC in STORAGE_ERRNOS
        assert str(caught.value.filename) == str(fetch.part) and fetch.part.stat().st_size > 0
        subprocess.run(["mount", "-o", "remount,size=9m", place], check=True)
        shelf.requests.clear()
        fetch()
        assert_whole(fetch)
        assert shelf.fetched("a.zip")[0] > 0
    finally:
        subprocess.run(["umount", place], check=True)
