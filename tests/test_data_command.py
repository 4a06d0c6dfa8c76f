"""``python -m pipeline data`` against a loopback server: whole corpora in small archives."""

import builtins
import errno
import hashlib
import itertools
import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import corpus_server
import pytest
from corpus_server import cut, status, zipped

from pipeline import __main__ as command_line
from pipeline import atomic
from pipeline.corpora import known, ravdess, scan
from pipeline.download import choose, client, command, unpack
from pipeline.download.choose import Receipt, Selection, Step
from pipeline.download.transfer import Remote
from pipeline.errors import InputError

pytestmark = pytest.mark.torture
ROOT = Path(__file__).parents[1]
RAVDESS = known.CORPORA["ravdess"]


def content_of(name, size=900):
    """Bytes that do not shrink, told by the name."""
    return random.Random(name).randbytes(size)


def video_archive(part, actor):
    """As published: every take with audio, and silent."""
    folder = f"Actor_{actor:02d}"
    takes = ravdess.published_takes(part)[actor]
    names = [f"{folder}/{kind}-{take}.mp4" for kind in ("01", "02") for take in takes]
    return zipped({f"{folder}/": b"", **{name: content_of(name) for name in names}})


def audio_archive(part, actors):
    names = [
        f"Actor_{actor:02d}/03-{take}.wav"
        for actor in actors
        for take in ravdess.published_takes(part)[actor]
    ]
    return zipped({name: content_of(name) for name in names})


@pytest.fixture(scope="module")
def published():
    """RAVDESS of three actors, two files that nobody needs among it."""
    files = {"README.txt": b"hello", "Something_Else.zip": zipped({"a": b"b"})}
    for part in ("speech", "song"):
        files[f"Audio_{part.title()}_Actors_01-24.zip"] = audio_archive(part, (1, 2, 3))
        for actor in (1, 2, 3):
            name = f"Video_{part.title()}_Actor_{actor:02d}.zip"
            files[name] = video_archive(part, actor)
    return files


@pytest.fixture
def shelf(monkeypatch, published):
    """A server with that record; waiting takes no time."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(client.time, "sleep", lambda _: None)
    monkeypatch.setattr(client.Client.__init__, "__defaults__", (lambda _: None, time.time))
    shelf = corpus_server.Shelf()
    stop = corpus_server.serve(shelf)
    shelf.record(1188976, published)
    yield shelf
    stop()


@pytest.fixture
def data(shelf, tmp_path, capsys, monkeypatch):
    """Runs the command; gives exit code, lines of output, lines of errors without bars."""
    before = signal.getsignal(signal.SIGTERM)

    def run(*words, answer="--yes"):
        given = ["data", "--raw", tmp_path / "raw", "--server", f"{shelf.url}/", *words]
        given += [answer] if answer else []
        monkeypatch.setattr(sys, "argv", ["pipeline", *map(str, given)])
        code = command_line.main()
        out, errors = capsys.readouterr()
        bars = [line for line in errors.replace("\r", "\n").splitlines() if "B/s" in line]
        rest = [line for line in errors.replace("\r", "\n").splitlines() if line not in bars]
        return code, out.splitlines(), [line for line in rest if line.strip()]

    yield run
    signal.signal(signal.SIGTERM, before)


def media(folder):
    """Every media file below a folder with its content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".mp4", ".wav", ".flv")
    }


def assert_right(folder, parts=("speech", "song"), actors=(1, 2, 3), video=True):
    """Exactly the wanted files of RAVDESS, with their bytes, and no trace of the work."""
    names = set()
    for part, actor in itertools.product(parts, actors):
        for take in ravdess.published_takes(part)[actor]:
            names.add(f"Actor_{actor:02d}/03-{take}.wav")
            if video:
                names.add(f"Actor_{actor:02d}/01-{take}.mp4")
    found = media(folder)
    assert set(found) == names
    assert all(content == content_of(name) for name, content in found.items())
    rest = [
        path for path in folder.rglob("*") if path.is_file() and path.suffix in (".part", ".zip")
    ]
    assert not rest and not list(folder.rglob("*.partial"))


def assert_refused(answer, *words):
    code, _, errors = answer
    assert code == 2 and len(errors) == 1 and errors[0].startswith("error: "), answer
    for word in words:
        assert word in errors[0], errors


def test_ravdess_from_nothing_to_nothing_to_do(data, shelf, tmp_path):
    folder = tmp_path / "raw/ravdess"
    code, out, errors = data()
    assert (code, errors) == (0, [])
    assert_right(folder)
    assert out[0] == "RAVDESS" and "CC BY-NC-SA 4.0" in out[1] and "Livingstone" in out[2]
    assert "record 1188976, version 1.0.0" in out[4]
    archives = [line.split()[0] for line in out[5:13]]
    assert archives == sorted(name for name in shelf_archives(shelf) if "Actor" in name)
    assert out[13].startswith("to fetch: 8 archives, ")
    assert "312 clips of 3 actors: 312 with video and audio files" in out[14]
    assert out[15] == f"next: make features RAW={folder}"
    assert len(scan.scan(folder).clips) == 312
    asked = len(shelf.requests)
    code, out, errors = data()
    assert (code, errors) == (0, []) and len(shelf.requests) == asked + 1
    assert all(line.endswith("  unpacked") for line in out[5:13])


def shelf_archives(shelf):
    return [path.removeprefix("/files/") for path in shelf.files if path.endswith(".zip")]


def test_what_is_asked_for_is_fetched(data, shelf, tmp_path):
    folder = tmp_path / "raw/ravdess"
    assert data("--actors", "2", "--channel", "song")[0] == 0
    assert_right(folder, ("song",), (2,))
    fetched = {path.removeprefix("/files/") for path, _ in shelf.requests[1:]}
    assert fetched == {"Audio_Song_Actors_01-24.zip", "Video_Song_Actor_02.zip"}
    # One more actor: the archive with all actors' audio is needed again, the actor's video is not.
    shelf.requests.clear()
    assert data("--actors", "2,3", "--channel", "song")[0] == 0
    assert_right(folder, ("song",), (2, 3))
    fetched = {path.removeprefix("/files/") for path, _ in shelf.requests[1:]}
    assert fetched == {"Audio_Song_Actors_01-24.zip", "Video_Song_Actor_03.zip"}


def test_audio_alone(data, shelf, tmp_path):
    assert data("--audio-only")[0] == 0
    assert_right(tmp_path / "raw/ravdess", video=False)
    assert not [path for path, _ in shelf.requests if "Video" in path]


def test_archives_are_kept_where_asked(data, shelf, tmp_path):
    held = tmp_path / "raw/ravdess/archives"
    words = ("--actors", "1", "--channel", "speech")
    assert data(*words, "--keep")[0] == 0
    kept = {path.name: path.read_bytes() for path in held.glob("*.zip")}
    assert set(kept) == {"Audio_Speech_Actors_01-24.zip", "Video_Speech_Actor_01.zip"}
    # A kept archive serves for what was not unpacked of it.
    asked = len(shelf.requests)
    assert data("--actors", "1-2", "--channel", "speech", "--audio-only", "--keep")[0] == 0
    assert len(shelf.requests) == asked + 1
    assert len(scan.scan(tmp_path / "raw/ravdess").clips) == 120
    # What was kept stays until its user deletes it, and so does what a user put there.
    (held / "Video_Speech_Actor_02.zip").write_bytes(
        shelf.files["/files/Video_Speech_Actor_02.zip"]
    )
    kept = {path.name for path in held.glob("*.zip")}
    assert data("--actors", "1-3", "--channel", "speech")[0] == 0
    assert {path.name for path in held.glob("*.zip")} == kept
    assert len(scan.scan(tmp_path / "raw/ravdess").clips) == 180


def test_an_archive_whose_unpacking_was_interrupted_is_deleted_all_the_same(
    data, tmp_path, monkeypatch
):
    def interrupt(*_):
        raise KeyboardInterrupt

    words = ("--actors", "1", "--channel", "song")
    with monkeypatch.context() as patch:
        patch.setattr(unpack, "extract", interrupt)
        assert data(*words)[0] == 130
    folder = tmp_path / "raw/ravdess"
    assert list(folder.glob("archives/*.zip"))
    assert data(*words)[0] == 0
    assert_right(folder, ("song",), (1,))
    assert not list(folder.glob("archives/*.fetched"))


def test_a_clip_that_was_deleted_is_fetched_again(data, tmp_path):
    folder = tmp_path / "raw/ravdess"
    data("--actors", "1", "--channel", "speech")
    next(folder.glob("Actor_01/01-*.mp4")).unlink()
    assert data("--actors", "1", "--channel", "speech")[0] == 0
    assert_right(folder, ("speech",), (1,))


def test_a_file_of_the_users_is_not_replaced(data, tmp_path):
    folder = tmp_path / "raw/ravdess"
    own = folder / "Actor_01/01-01-01-01-01-01-01.mp4"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine")
    answer = data("--actors", "1", "--channel", "speech")
    assert_refused(answer, str(own), "move it away")
    assert own.read_bytes() == b"mine"
    own.unlink()
    assert data("--actors", "1", "--channel", "speech")[0] == 0
    assert_right(folder, ("speech",), (1,))


# Questions


@pytest.mark.parametrize(("answer", "code"), [("y", 0), (" YES ", 0), ("", 2), ("n", 2), (None, 2)])
def test_the_question(data, shelf, tmp_path, monkeypatch, answer, code):
    def say(_):
        if answer is None:
            raise EOFError
        return answer

    monkeypatch.setattr(builtins, "input", say)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert data("--actors", "1", "--channel", "song", answer=None)[0] == code
    assert (tmp_path / "raw").exists() == (code == 0)
    assert len(shelf.requests) == (3 if code == 0 else 1)


def test_without_a_terminal_nobody_is_asked(data, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert_refused(data(answer=None), "YES=1")
    assert not (tmp_path / "raw").exists()


def test_a_disk_that_is_too_small_is_refused_before_anything(data, shelf, tmp_path, monkeypatch):
    monkeypatch.setattr(
        command.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10_000})()
    )
    assert_refused(data(), "of room at", "got 10.0 kB")
    assert not (tmp_path / "raw").exists() and len(shelf.requests) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--actors", "25"], "expected actors 1-24 of RAVDESS, got 25"),
        (["--actors", "20"], "ask for other actors"),
        (["--corpus", "subesco", "--channel", "song"], "expected no channel with SUBESCO"),
        (["--corpus", "savee"], "register at"),
        (["--corpus", "iemocap"], "ask for it at"),
        (["--corpus", "meld"], "MELD.Raw.tar.gz"),
        (["--corpus", "subesco"], "HTTP 404"),
        (["--server", "http://127.0.0.1:1"], "5 times in a row"),
        (["--server", "127.0.0.1"], "check the address"),
    ],
)
def test_what_cannot_be_fetched(data, shelf, tmp_path, words, said):
    if words == ["--actors", "20"]:
        shelf.record(1188976, {"Video_Speech_Actor_01.zip": b""})
    assert_refused(data(*words), said)
    assert not (tmp_path / "raw").exists()


# Records that are none


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        b"[]",
        b'{"files": 3}',
        b'{"files": [{"key": "a.zip"}]}',
        b"\xff\xfe",
        json.dumps(
            {
                "files": [
                    {
                        "key": "a.zip",
                        "size": 1,
                        "checksum": "crc:1",
                        "links": {"self": "http://127.0.0.1/"},
                    }
                ]
            }
        ).encode(),
        json.dumps(
            {
                "files": [
                    {
                        "key": "../a.zip",
                        "size": 1,
                        "checksum": "md5:" + "0" * 32,
                        "links": {"self": "http://127.0.0.1/"},
                    }
                ]
            }
        ).encode(),
    ],
)
def test_answers_that_are_no_record(data, shelf, tmp_path, answer):
    shelf.files["/api/records/1188976"] = answer
    assert_refused(data(), "/api/records/1188976")
    assert not (tmp_path / "raw").exists()


# Interruptions


def test_cuts_and_busy_answers_on_the_way(data, shelf, tmp_path):
    size = len(shelf.files["/files/Video_Song_Actor_01.zip"])
    shelf.faults = {
        "/api/records/1188976": [status(503), status(429, Retry_After=3)],
        "/files/Audio_Song_Actors_01-24.zip": [cut(1000)],
        "/files/Video_Song_Actor_01.zip": [cut(size // 10) for _ in range(9)],
    }
    assert data("--actors", "1", "--channel", "song")[0] == 0
    assert_right(tmp_path / "raw/ravdess", ("song",), (1,))


@pytest.mark.slow
def test_killed_at_many_moments_and_repeated(shelf, tmp_path, published):
    """SIGKILL and Ctrl-C at growing times, until a run ends by itself: the same bytes."""
    # Large enough that some of the moments fall into it.
    for name, content in published.items():
        if name.startswith("Video_Speech"):
            shelf.faults[f"/files/{name}"] = [cut(len(content) // 3)] * 2
    words = [sys.executable, "-m", "pipeline", "data", "--raw", tmp_path / "raw", "--yes"]
    words = [words[0], "-u", *words[1:], "--server", shelf.url, "--channel", "speech"]
    codes = []
    for place in itertools.count():
        run = subprocess.Popen(
            words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert run.stdout.readline() == "RAVDESS\n"
        try:
            run.wait(0.3 * place)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL if place % 2 else signal.SIGINT)
        out, errors = run.communicate()
        codes.append(run.returncode)
        assert "Traceback" not in errors, errors
        if run.returncode == 0:
            break
        assert run.returncode in (130, -signal.SIGKILL, -signal.SIGINT), (codes, out, errors)
    assert len(codes) > 2
    assert_right(tmp_path / "raw/ravdess", ("speech",))


def test_two_runs_at_once(data, tmp_path):
    with command.alone(tmp_path / "raw/ravdess"):
        assert_refused(data("--actors", "1"), "no other run")
    assert data("--actors", "1")[0] == 0


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_refuses_while_unpacking(data, tmp_path, monkeypatch, call):
    counter, real = itertools.count(), getattr(os, call)

    def refuse(*given):
        if next(counter) == 40:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*given)

    words = ("--actors", "1", "--channel", "song")
    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, call, refuse)
        assert_refused(data(*words), "No space left", "Actor_01/")
    folder = tmp_path / "raw/ravdess"
    assert all(content == content_of(name) for name, content in media(folder).items())
    assert data(*words)[0] == 0
    assert_right(folder, ("song",), (1,))


# Archives that are none


def link():
    info = zipfile.ZipInfo("Actor_01/01-01-02-01-01-01-01.mp4")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def device():
    info = zipfile.ZipInfo("Actor_01/x")
    info.external_attr = (stat.S_IFCHR | 0o777) << 16
    return info


GOOD = "Actor_01/01-01-01-01-01-01-01.mp4"
BAD_NAMES = ["../x.mp4", "Actor_01/../../x.mp4", "/tmp/x.mp4", "a\\..\\x.mp4", "C:x.mp4", ".."]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_lead_out(data, shelf, tmp_path, name):
    shelf.record(1188976, {"Video_Speech_Actor_01.zip": zipped({GOOD: b"1", name: b"2"})})
    before = {path for path in tmp_path.rglob("*") if "raw" not in path.parts}
    assert_refused(data(), "got the name", "nothing of it is unpacked")
    assert not media(tmp_path / "raw")
    assert {path for path in tmp_path.rglob("*") if "raw" not in path.parts} == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (zipped({GOOD: b"1", link(): b"/etc/passwd"}), "link or a device"),
        (zipped({GOOD: b"1", device(): b""}), "link or a device"),
        (zipped({GOOD: b"\0" * 40_000_000}), "40000000 bytes of content in"),
        (zipped({GOOD: b"\0" * 900, "x/a.bin": b"\0" * 40_000_000}), "bytes of content in"),
        (b"", "what cannot be read"),
        (b"PK\3\4 no archive at all", "what cannot be read"),
    ],
)
def test_archives_that_are_refused(data, shelf, tmp_path, content, said):
    shelf.record(1188976, {"Video_Speech_Actor_01.zip": content})
    assert_refused(data(), said, "nothing of it is unpacked")
    assert not media(tmp_path / "raw")


def patched(content, old, new):
    """Change bytes that occur in an archive."""
    assert old in content
    return content.replace(old, new)


def test_archives_that_lie(tmp_path):
    inside = content_of("x", 5000)
    whole = zipped({GOOD: inside}, zipfile.ZIP_STORED)
    other = inside[:100] + bytes([inside[100] ^ 1]) + inside[101:]
    size = len(inside).to_bytes(4, "little")
    lies = {
        "crc": patched(whole, inside, other),
        "longer": patched(whole, size, (9000).to_bytes(4, "little")),
        "shorter": patched(whole, size, (4000).to_bytes(4, "little")),
        "encrypted": patched(whole, b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0"),
        "method": patched(whole, b"PK\1\2\x14\3\x14\0\0\0\0\0", b"PK\1\2\x14\3\x14\0\0\0\x63\0"),
        "cut": whole[: len(whole) // 2],
    }
    for kind, content in lies.items():
        path, folder = tmp_path / f"{kind}.zip", tmp_path / kind
        path.write_bytes(content)
        with pytest.raises(InputError, match="expected an archive of media files") as caught:
            unpack.extract(path, unpack.list_members(path), folder, lambda _: None)
        assert "\n" not in str(caught.value)
        assert not [file for file in folder.rglob("*") if file.is_file()], kind


def test_two_files_of_one_name(tmp_path):
    path = tmp_path / "a.zip"
    other = GOOD.replace("mp4", "mp5")
    content = zipped({GOOD: b"1", other: b"2"})
    path.write_bytes(patched(content, other.encode(), GOOD.encode()))
    with pytest.raises(InputError, match="twice"):
        unpack.list_members(path)


def test_a_wrong_file_under_an_archives_name(data, shelf, tmp_path):
    held = tmp_path / "raw/ravdess/archives"
    held.mkdir(parents=True)
    (held / "Video_Song_Actor_01.zip").write_bytes(b"something else")
    words = ("--actors", "1", "--channel", "song")
    assert_refused(data(*words), "got another file", "move it away")
    (held / "Video_Song_Actor_01.zip").write_bytes(shelf.files["/files/Video_Song_Actor_01.zip"])
    shelf.requests.clear()
    assert data(*words)[0] == 0
    assert not [path for path, _ in shelf.requests if "Video" in path]


# Other corpora


def test_subesco(data, shelf, tmp_path):
    names = [
        f"SUBESCO/{letter}_01_X_S_1_{word}_1.wav" for letter in "FM" for word in ("SAD", "FEAR")
    ]
    files = {name: content_of(name) for name in names}
    shelf.record(4526477, {"SUBESCO.zip": zipped(files)}, "1.1")
    code, out, _ = data("--corpus", "subesco", "--actors", "2")
    assert code == 0 and "CC BY 4.0" in out[1]
    assert media(tmp_path / "raw/subesco") == {
        name: content for name, content in files.items() if "/M_" in name
    }


@pytest.fixture
def crema(shelf):
    """CREMA-D's repository with four takes of two actors."""
    takes = [f"{actor}_{take}" for actor in (1001, 1002) for take in ("DFA_ANG_XX", "IEO_SAD_HI")]
    files = {f"AudioWAV/{take}.wav": content_of(take) for take in takes}
    files |= {f"VideoFlash/{take}.flv": content_of(take, 4000) for take in takes}
    readme = {"AudioWAV/README.md": b"no media", "docs/index.html": b"a page"}
    shelf.repository("CheyneyComputerScience/CREMA-D", files | readme)
    return files


def test_crema_d(data, shelf, crema, tmp_path):
    folder = tmp_path / "raw/crema_d"
    code, out, _ = data("--corpus", "crema_d", "--actors", "1002")
    assert code == 0 and "Open Database License" in out[1]
    assert media(folder) == {path: content for path, content in crema.items() if "1002" in path}
    assert data("--corpus", "crema_d")[0] == 0
    assert media(folder) == crema
    media_requests = [path for path, _ in shelf.requests if path.startswith("/media/")]
    assert len(media_requests) == len(set(media_requests)) == 8
    shelf.requests.clear()
    code, out, _ = data("--corpus", "crema_d")
    assert code == 0 and len(shelf.requests) == 3 and "8 of them here" in out[4]


@pytest.mark.parametrize("what", ["content", "pointer", "missing", "truncated", "folder"])
def test_a_repository_that_is_broken(data, shelf, crema, tmp_path, what):
    name, path = "CheyneyComputerScience/CREMA-D", "VideoFlash/1001_DFA_ANG_XX.flv"
    trees = f"/repos/{name}/git/trees"
    if what == "content":
        shelf.files[f"/media/{name}/master/{path}"] = content_of("other", 4000)
    elif what == "pointer":
        shelf.files[f"/raw/{name}/master/{path}"] = b"<html>"
    elif what == "missing":
        del shelf.files[f"/media/{name}/master/{path}"]
    elif what == "truncated":
        shelf.files[f"{trees}/sha-VideoFlash"] = b'{"tree": [], "truncated": true}'
    else:
        shelf.files[f"{trees}/master"] = b'{"tree": []}'
    code, _, errors = data("--corpus", "crema_d")
    errors = [line for line in errors if not line.startswith("CREMA-D:")]
    assert code == 2 and len(errors) == 1 and errors[0].startswith("error: expected "), errors
    assert not (tmp_path / "raw/crema_d" / path).exists()


# Decisions


def test_archives_are_told_by_their_names():
    archive = RAVDESS.source.archive
    video = archive("Video_Song_Actor_07.zip")
    assert (video.is_audio, video.part, video.actor) == (False, "song", 7)
    audio = archive("Audio_Speech_Actors_01-24.zip")
    assert (audio.is_audio, audio.part, audio.actor) == (True, "speech", None)
    assert archive("FacialTracking_Actors_01-24.zip") is None


def test_of_two_videos_of_a_take_the_one_with_audio_is_useful():
    take = "01-04-01-01-01-05"
    both = {f"Actor_05/{kind}-{take}.mp4": 10 for kind in ("02", "01")}
    assert set(choose.useful(RAVDESS, both)) == {f"Actor_05/01-{take}.mp4"}
    alone = {f"Actor_05/02-{take}.mp4": 10, "Actor_05/notes.txt": 3, "Actor_05/x.mp4": 4}
    assert set(choose.useful(RAVDESS, alone)) == {f"Actor_05/02-{take}.mp4"}


def step(name, size, is_done=False, here=0):
    remote = Remote(name, "", size, "md5", "0" * 32)
    return Step(remote, RAVDESS.source.archive(name), is_done, here)


def test_room_is_that_of_one_archive_at_a_time():
    steps = [step(f"Video_Speech_Actor_0{actor}.zip", 1000) for actor in (1, 2, 3)]
    assert choose.peak_bytes(steps, keep=False) == 3 * 550 + 1000
    assert choose.peak_bytes(steps, keep=True) == 3 * 1550
    halfway = [step("Video_Speech_Actor_01.zip", 1000, True), *steps[1:]]
    assert choose.peak_bytes(halfway, keep=False) == 2 * 550 + 1000
    assert choose.peak_bytes([], keep=False) == 0


def test_steps_follow_from_receipts_and_files():
    digest = hashlib.md5(b"").hexdigest()
    name = "Video_Speech_Actor_01.zip"
    remote = Remote(name, "", 1000, "md5", digest)
    clip = "Actor_01/01-01-01-01-01-01-01.mp4"
    files = [(remote, RAVDESS.source.archive(name))]

    def decide(receipt, present, arrived, selection=None):
        receipts = {name: receipt} if receipt else {}
        (only,) = choose.plan_steps(
            RAVDESS, selection or Selection(), files, receipts, present, arrived
        )
        return only.is_done, only.missing_bytes

    receipt = Receipt(digest, {clip: 7})
    assert decide(None, {}, {}) == (False, 1000)
    assert decide(None, {}, {name: 300}) == (False, 700)
    assert decide(receipt, {clip: 7}, {}) == (True, 0)
    assert decide(receipt, {clip: 6}, {}) == (False, 1000)
    assert decide(receipt, {}, {name: 1000}) == (False, 0)
    assert decide(Receipt("other", {clip: 7}), {clip: 7}, {}) == (False, 1000)
    assert not choose.plan_steps(RAVDESS, Selection(actors=frozenset({2})), files, {}, {}, {})
