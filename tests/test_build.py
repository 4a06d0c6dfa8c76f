"""Raw files to a cache: what is made, what is kept, and that nothing goes that nobody asked for."""

import contextlib
import copy
import dataclasses
import os
import shutil
import threading

import h5py
import numpy as np
import pytest
from conftest import (
    TINY,
    hashes,
    make,
    manifest_of,
    shards_of,
    tally,
    write_take,
    write_video,
    write_wav,
)

from pipeline import guard
from pipeline.backends import Workers
from pipeline.cache import build, explain, facts, index, lock, survey, task, verify
from pipeline.corpora import scan, sources
from pipeline.corpora.clip import Clip
from pipeline.corpora.sources import file_sha256
from pipeline.errors import InputError
from pipeline.features import extract
from pipeline.media import audio
from pipeline.spec import FeatureSpec


def lasting(folder):
    """What is in a cache, but for times."""
    manifests = []
    for path in sorted(folder.glob("actor-*.json")):
        shard = facts.read_manifest(path, TINY)
        manifests.append(dataclasses.replace(shard, seconds=0.0, finished="", checksum=""))
    return hashes(folder), manifests, index.read_index(folder).fingerprint


def tree(folder):
    """Every file of a folder with its content and times."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def faults(folder):
    return verify.check_cache(folder, Workers(1), progress=False).faults


@pytest.fixture
def folder(made):
    return made / TINY.digest


def test_a_cache_is_shards_manifests_and_an_index(tiny):
    names = sorted(path.name for path in (tiny / TINY.digest).iterdir() if path.name != ".lock")
    assert len(names) == 9 and names[-1] == "index.json"
    for actor, (shard, manifest) in enumerate(zip(names[:8:2], names[1:8:2], strict=True), 1):
        assert shard.startswith(f"actor-{actor:02d}-") and shard.endswith(".h5")
        assert manifest == shard.replace(".h5", ".json")


def test_rows_are_what_inference_computes(cache, raw, spec):
    """A cached clean row equals, byte for byte, the features of the raw file."""
    clip = scan.scan(raw).clips[5]
    waveform = audio.read_waveform(clip.audio_source, spec.sample_rate_hz)
    span = extract.clip_span(waveform, spec)
    (window,) = extract.read_windows(waveform, clip.video, [span], spec, threads=0)
    fresh = extract.featurize(window, extract.find_face(window, spec), spec)
    with h5py.File(cache / spec.digest / shards_of(cache / spec.digest, clip.actor)[0]) as file:
        row = np.flatnonzero(
            (file["clip"].asstr()[:] == clip.id) & (file["variant"].asstr()[:] == "clean")
        )[0]
        assert file["mfcc"][row].tobytes() == fresh.mfcc.tobytes()
        assert file["frames"][row].tobytes() == fresh.frames.tobytes()
        assert fresh.mfcc.any() and fresh.frames.any()


def test_sound_and_pictures_of_a_stretched_variant_cover_the_same_stretch(tmp_path):
    """The loud part of the sound and the bright part of the pictures stay together."""
    rate = 22_050
    seconds = np.arange(3 * rate) / rate
    bright = (seconds > 1.4) & (seconds < 1.7)
    sound = np.where(bright, 0.9, 0.05) * np.sin(2 * np.pi * 300 * seconds)
    frames = (
        (n / 50, np.full((48, 64, 3), 250 if 1.4 < n / 50 < 1.7 else 30, np.uint8))
        for n in range(150)
    )
    path = tmp_path / "01-01-03-01-01-01-01.mp4"
    from pipeline.media import encode

    encode.write_mp4(path, frames, sound.astype(np.float32), rate)
    spec = FeatureSpec(
        variants=("stretch", "stretch-2", "stretch-3"), voice_threshold_db=60.0, frame_count=60
    )
    rows = extract.extract_clip(Clip("a", 1, "happy", path), spec)
    middles = []
    for row in rows:
        loud = row.features.mfcc[0, :, 0]
        loud_at = np.flatnonzero(loud > (loud.max() + np.median(loud)) / 2).mean() / 44
        levels = row.features.frames.mean(axis=(1, 2, 3))
        bright_at = (np.flatnonzero(levels > (levels.max() + np.median(levels)) / 2) + 0.5).mean()
        # Pictures reach beyond the window on both sides.
        seen_at = 0.5 + spec.frames_margin * (bright_at / spec.frame_count - 0.5)
        assert loud_at == pytest.approx(seen_at, abs=0.05)
        middles.append(loud_at)
    assert np.ptp(middles) > 0.03


# The same bytes


@pytest.mark.torture
@pytest.mark.parametrize(
    "backends", [["threading"], pytest.param(["loky", None], marks=pytest.mark.slow)]
)
def test_neither_jobs_nor_order_of_the_folder_changes_a_byte(
    tiny, raw, tmp_path, monkeypatch, backends
):
    """Two at a time, and a file system that lists everything backwards."""
    walk = scan.os.walk

    def backwards(root, **options):
        for folder, subfolders, names in walk(root, **options):
            subfolders.reverse()
            yield folder, subfolders, names[::-1]

    monkeypatch.setattr(scan.os, "walk", backwards)
    for number, backend in enumerate(backends):
        make(raw, tmp_path / f"{number}", workers=Workers(2, backend))
        assert lasting(tmp_path / f"{number}" / TINY.digest) == lasting(tiny / TINY.digest)
        tally("same bytes: jobs, backend, order of the folder", 1, 1)


def test_a_clip_that_comes_and_goes_leaves_the_same_bytes(made, own_raw, folder):
    before = lasting(folder)
    added = write_take(own_raw, "01-01-06-01-01-01-02")
    make(own_raw, made)
    for path in own_raw.rglob("*01-06-01-01-01-02.*"):
        path.unlink()
    assert not added.exists()
    done = make(own_raw, made, only_wanted=True)
    build.remove_unnamed(done)
    assert lasting(folder) == before


# What is fresh


def test_nothing_changed_opens_and_writes_nothing(made, raw, monkeypatch):
    monkeypatch.setattr(guard, "call", None)
    before = tree(made)
    done = make(raw, made)
    assert (done.extracted, done.index.rows, done.unnamed, done.absent) == (0, 32, (), ())
    del before[made / TINY.digest / ".lock"]
    after = tree(made)
    assert before.items() <= after.items() and len(after) == len(before) + 1


TAKE = "05-01-01-01-02"


def takes(actors, emotions=(1, 3, 5, 8)):
    return {f"0{emotion}-01-01-01-0{actor}" for actor in actors for emotion in emotions}


def rename(root, *changes):
    """Replace words in the paths of all files."""
    for path in [path for path in sorted(root.rglob("*")) if path.is_file()]:
        name = str(path.relative_to(root))
        for old, new in changes:
            name = name.replace(old, new)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        path.rename(root / name)


def change_last_byte(path):
    text = path.read_bytes()
    path.write_bytes(text[:-1] + bytes([text[-1] ^ 1]))


def remove(root, pattern):
    for path in list(root.rglob(pattern)):
        path.unlink()


@pytest.mark.torture
@pytest.mark.parametrize(
    ("change", "made_again"),
    [
        (lambda root: change_last_byte(next(root.rglob(f"03-01-{TAKE}.wav"))), takes([2])),
        (lambda root: change_last_byte(next(root.rglob(f"01-01-{TAKE}.mp4"))), takes([2])),
        (lambda root: rename(root, (f"01-01-{TAKE}", f"02-01-{TAKE}")), takes([2])),
        (lambda root: rename(root, (TAKE, "06-01-01-01-02")), takes([2], [1, 3, 6, 8])),
        (lambda root: rename(root, (f"Actor_02/01-01-{TAKE}", f"01-01-{TAKE}")), takes([2])),
        (lambda root: next(root.rglob(f"03-01-{TAKE}.wav")).unlink(), takes([2])),
        (lambda root: remove(root, f"*-{TAKE}.*"), set()),
        (lambda root: write_take(root, "01-01-06-01-01-01-02"), takes([2], [1, 3, 5, 6, 8])),
        (lambda root: write_take(root, "01-01-06-01-01-01-07"), takes([7], [6])),
        (lambda root: rename(root, ("_02", "_09"), ("-02.", "-09.")), takes([9])),
        (lambda root: rename(root, ("Actor_", "actor ")), takes([1, 2, 3, 4])),
        (lambda root: [path.touch() for path in root.rglob("*.*")], set()),
        (lambda root: [path.write_bytes(path.read_bytes()) for path in root.rglob("*.wav")], set()),
        (lambda root: (root / "notes.txt").write_text("new"), set()),
    ],
    ids=[
        "audio changed",
        "video changed",
        "video renamed",
        "emotion renamed",
        "video moved",
        "audio removed",
        "clip removed",
        "clip added",
        "actor added",
        "actor renamed",
        "folders renamed",
        "all touched",
        "same bytes written",
        "a file that is no media",
    ],
)
def test_exactly_the_right_shards_are_made_again(
    made, own_raw, folder, extracted, change, made_again
):
    """And nothing that was there before is touched, whatever became of its clips."""
    before = tree(folder)
    change(own_raw)
    done = make(own_raw, made)
    assert sorted(extracted) == sorted(f"01-{take}" for take in made_again)
    actors = {int(take[-2:]) for take in made_again}
    after = tree(folder)
    new = {path.name for path in after.keys() - before.keys() if path.suffix == ".h5"}
    assert new == {shards_of(folder, actor)[-1] for actor in actors} and len(new) == len(actors)
    for path, state in before.items():
        assert path.name in ("index.json", ".lock") or after[path] == state
    found = index.find_cache(made)
    assert {clip.clip for clip in found.clips} == {clip.id for clip in scan.scan(own_raw).clips}
    assert found == done.index and not faults(folder)
    extracted.clear()
    assert make(own_raw, made).extracted == 0 and not extracted
    tally("stale: raw files added, changed, removed, renamed, touched", 1, 1)


def changed_value(value):
    """Another value of the same type, allowed or not."""
    if isinstance(value, tuple):
        return value[:-1] if value else ("noise",)
    return {int: 7, float: 1.75, str: "other", bool: not value}[type(value)]


def leaves(record, path=()):
    """Paths of the fields of a record, and of the records in it."""
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, (*path, field.name))
        else:
            yield (*path, field.name)


def with_change(record, path):
    """A copy in which one field has another value; no check sees it."""
    value = getattr(record, path[0])
    other = changed_value(value) if len(path) == 1 else with_change(value, path[1:])
    changed = copy.copy(record)
    object.__setattr__(changed, path[0], other)
    return changed


@pytest.mark.torture
@pytest.mark.parametrize("path", list(leaves(FeatureSpec())), ids=".".join)
def test_no_row_outlives_a_change_of_the_spec(tiny, tmp_path, path):
    """Neither in the folder of the changed spec, nor if the old files are moved there."""
    changed = with_change(TINY, path)
    assert changed.digest != TINY.digest
    old = tiny / TINY.digest
    shutil.copytree(old, tmp_path / changed.digest, copy_function=os.link)
    assert not survey.known_shards(tmp_path / changed.digest, changed).shards
    assert len(survey.known_shards(old, TINY).shards) == 4
    tally("stale: each field of the spec", 1, 1)


def test_sound_that_gets_a_file_of_its_own_is_read_from_there(tmp_path):
    sound = np.sin(np.arange(30_000) / 9).astype(np.float32) / 2
    write_video(tmp_path / "01-01-03-01-01-01-02.mp4", sound=sound)
    own = make(tmp_path, tmp_path / "a")
    write_wav(tmp_path / "03-01-03-01-01-01-02.wav", sound)
    paired = make(tmp_path, tmp_path / "a")
    assert len(own.index.clips[0].sources) == 1 and len(paired.index.clips[0].sources) == 2
    assert (own.extracted, paired.extracted) == (1, 1)


def test_content_that_changed_under_the_same_size_and_stamp(made, own_raw, folder, extracted):
    path = next(own_raw.rglob(f"03-01-{TAKE}.wav"))
    stamp = path.stat().st_mtime_ns
    change_last_byte(path)
    os.utime(path, ns=(stamp, stamp))
    assert make(own_raw, made).extracted == 0, "the default does not read what looks the same"
    done = make(own_raw, made, check_content=True)
    assert set(extracted) == {f"01-{take}" for take in takes([2])} and done.extracted == 4
    assert make(own_raw, made, check_content=True).extracted == 0


# Nothing goes that nobody asked for


def test_another_raw_folder_deletes_nothing(made, raw, folder, tmp_path, extracted):
    """It is listed, kept out of this run's index, and back at once."""
    part = tmp_path / "part"
    shutil.copytree(raw / "audios/Actor_02", part / "Actor_02")
    shutil.copytree(raw / "videos/Actor_02", part / "Actor_02", dirs_exist_ok=True)
    before = tree(folder)
    done = make(part, made)
    assert done.index.actors == [2] and len(done.absent) == 12
    assert set(done.unnamed) >= {shards_of(folder, actor)[0] for actor in (1, 3, 4)}
    after = tree(folder)
    assert all(after[path] == before[path] for path in before if path.name.startswith("actor-"))
    extracted.clear()
    back = make(raw, made)
    assert not extracted and back.index.rows == 32 and not back.absent


def test_two_corpora_of_the_same_names_keep_their_shards(made, raw, own_raw, folder, extracted):
    """Same clips, same sizes, other content: in turn on one cache, each is made once."""
    first = index.find_cache(made)
    for path in own_raw.rglob("*.wav"):
        text = bytearray(path.read_bytes())
        text[20_000:20_400] = bytes(400)
        path.write_bytes(text)
    second = make(own_raw, made)
    assert len(extracted) == 16 and second.index.fingerprint != first.fingerprint
    extracted.clear()
    for root, expected in ((raw, first), (own_raw, second.index)) * 2:
        done = make(root, made)
        assert done.index.fingerprint == expected.fingerprint and not done.absent
        assert not faults(folder)
    assert not extracted and len(list(folder.glob("*.h5"))) == 8


def test_only_what_the_index_does_not_name_is_removed_where_asked(made, own_raw, folder):
    remove(own_raw, "*-04.*")
    remove(own_raw, f"*-{TAKE}.*")
    done = make(own_raw, made, only_wanted=True)
    assert [len(shards_of(folder, actor)) for actor in (1, 2, 3, 4)] == [1, 2, 1, 1]
    build.remove_unnamed(done)
    assert [len(shards_of(folder, actor)) for actor in (1, 2, 3, 4)] == [1, 1, 1, 0]
    assert {path.stem for path in folder.glob("actor-*.json")} == {
        path.stem for path in folder.glob("*.h5")
    }
    assert index.find_cache(made) == done.index and done.index.rows == 22
    assert len(done.index.entries) == sum(len(shard.clips) for shard in done.index.shards)


def test_damaged_shards_and_those_without_a_manifest_are_removed_too(made, own_raw, folder):
    """Of clips that the raw folder lacks, and of groups that are others now; nothing else is."""
    write_take(own_raw, "01-01-06-01-01-01-01")
    write_take(own_raw, "01-01-06-01-01-01-02")
    remove(own_raw, "*-0[34].*")
    (one,), (two,), (three,), (four,) = (shards_of(folder, actor) for actor in (1, 2, 3, 4))
    facts.manifest_path(folder, one).unlink()
    facts.manifest_path(folder, two).write_text("{")
    (folder / three).write_bytes(b"cut")
    (folder / four).unlink()
    (folder / "actor-notes.json").write_text("mine")
    done = make(own_raw, made, only_wanted=True)
    assert list(done.unnamed) == [one, two, three, four]
    counts = {}

    def note(shard):
        counts[shard] = len(list(folder.glob("actor-*")))

    build.remove_unnamed(done, note=note)
    assert counts == {one: 11, two: 10, three: 8, four: 6}, "each is named before it goes"
    assert [fault.file for fault in faults(folder)] == ["actor-notes.json"]
    left = {path.name for path in folder.glob("actor-*")} - {"actor-notes.json"}
    assert left == {
        path.name
        for shard in done.index.shard_facts
        for path in (folder / shard, facts.manifest_path(folder, shard))
    }


def test_nothing_is_removed_beside_a_run_for_some_actors(made, own_raw, folder):
    remove(own_raw, "*-04.*")
    done = make(own_raw, made, only_wanted=True)
    with lock.held(folder, name="-4"), pytest.raises(InputError, match="expected no other run"):
        build.remove_unnamed(done, note=pytest.fail)
    assert shards_of(folder, 4)


def test_what_another_run_has_named_meanwhile_is_not_removed(made, raw, own_raw, folder):
    remove(own_raw, "*-04.*")
    done = make(own_raw, made, only_wanted=True)
    assert list(done.unnamed) == shards_of(folder, 4)
    other = make(raw, made)
    build.remove_unnamed(done)
    assert index.find_cache(made) == other.index and other.index.actors == [1, 2, 3, 4]


# Versions


def test_versions_stand_beside_the_shard_they_made(made, own_raw, folder, monkeypatch):
    """An increment with another library says so of the new shard alone."""
    today = manifest_of(folder, 1)["libraries"]
    assert {"python", "numpy", "scipy", "librosa", "av", "h5py", "reader"} <= today.keys()
    monkeypatch.setattr(task, "versions", lambda: {**today, "scipy": "99.0"})
    write_take(own_raw, "01-01-06-01-01-01-07")
    make(own_raw, made)
    assert manifest_of(folder, 7)["libraries"]["scipy"] == "99.0"
    assert manifest_of(folder, 1)["libraries"] == today


# Clips that cannot be read


@pytest.fixture
def bad(own_raw):
    """A raw folder in which one clip is a web page."""
    video = next(own_raw.rglob("01-01-03-01-01-01-02.mp4"))
    stamp = video.stat().st_mtime_ns
    good = video.read_bytes()
    video.write_bytes(b"<html></html>")
    return video, good, stamp


def test_a_clip_that_cannot_be_read_stops_nothing(made, own_raw, folder, bad):
    done = make(own_raw, made)
    assert [entry.clip for entry in done.index.unreadable] == ["01-03-01-01-01-02"]
    assert "a web page" in done.index.unreadable[0].reason and done.index.rows == 30
    with h5py.File(folder / shards_of(folder, 2)[-1]) as file:
        assert len(file["frames"]) == len(file["mfcc"]) == len(file["label"]) == 6
        assert file["label"][:].tolist() == [0, 0, 4, 4, 7, 7]
        assert all(file["frames"][row].any() for row in range(6))


def test_when_a_bad_clip_is_tried_again(made, own_raw, bad, extracted, monkeypatch):
    make(own_raw, made)
    extracted.clear()
    assert make(own_raw, made).extracted == 0 and not extracted
    assert make(own_raw, made, retry_bad=True).extracted == 1
    monkeypatch.setattr(task, "reader_version", lambda: "another")
    monkeypatch.setattr(task, "versions", lambda: {"reader": "another"})
    assert make(own_raw, made).extracted == 1
    assert make(own_raw, made).extracted == 0
    video, good, _ = bad
    video.write_bytes(good)
    done = make(own_raw, made)
    assert done.index.rows == 32 and not done.index.unreadable


def test_the_readers_version_is_that_of_its_code_and_library(monkeypatch):
    first = task.reader_version()
    assert task.reader_version() == first == task.versions()["reader"]
    monkeypatch.setattr(task.importlib.metadata, "version", lambda name: f"{name} 99")
    assert task.reader_version.__wrapped__() != first
    monkeypatch.setattr(task, "READER_FOLDERS", ("media",))
    assert task.reader_version.__wrapped__() != first


def test_a_clip_lost_with_its_process_is_listed_and_tried_again(
    tiny, raw, tmp_path, extracted, monkeypatch
):
    lost, call = "01-05-01-01-01-02", guard.call

    def lose_one(target, clip, *given, limit_seconds):
        assert limit_seconds == 60.0
        if clip.id == lost:
            return guard.Failure("expected an end", transient=True)
        return call(target, clip, *given, limit_seconds=limit_seconds)

    monkeypatch.setattr(guard, "call", lose_one)
    done = make(raw, tmp_path, clip_timeout_seconds=60.0)
    assert [(bad.clip, bad.reason) for bad in done.index.unreadable] == [(lost, "expected an end")]
    assert done.index.rows == 30
    monkeypatch.setattr(guard, "call", call)
    extracted.clear()
    again = make(raw, tmp_path)
    assert extracted == [lost] and not again.index.unreadable
    assert again.index.fingerprint == index.find_cache(tiny).fingerprint


def test_a_failure_that_lasts_costs_one_clip_a_run_and_no_room(
    raw, tmp_path, extracted, monkeypatch
):
    lost, call, reason = "01-05-01-01-01-02", guard.call, "expected an end within 60 s"

    def lose_one(target, clip, *given, limit_seconds):
        if clip.id == lost:
            return guard.Failure(reason, transient=True)
        return call(target, clip, *given, limit_seconds=limit_seconds)

    monkeypatch.setattr(guard, "call", lose_one)
    make(raw, tmp_path)
    folder = tmp_path / TINY.digest
    before, _ = tree(folder), extracted.clear()
    for _ in range(3):
        done = make(raw, tmp_path)
        assert [entry.clip for entry in done.index.unreadable] == [lost]
    assert extracted == [lost] * 3 and done.index.rows == 30
    assert tree(folder).keys() == before.keys() and not faults(folder)
    reason = "expected a process to survive this"
    assert make(raw, tmp_path).index.unreadable[0].reason == reason


def test_a_file_that_hangs_costs_the_time_limit_alone(made, own_raw):
    """The raw file is a pipe without a writer: reading it to hash it would never end either."""
    path = next(own_raw.rglob(f"03-01-{TAKE}.wav"))
    path.unlink()
    os.mkfifo(path)
    # A writer after all: a reader that waits for the pipe ends, and the test fails below.
    rescue = threading.Timer(30, lambda: os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK)))
    rescue.start()
    done = make(own_raw, made, clip_timeout_seconds=3)
    rescue.cancel()
    (entry,) = done.index.unreadable
    assert entry.clip == f"01-{TAKE}" and entry.sources == ()
    assert "expected an end within 3 s" in entry.reason and done.index.rows == 30


def test_a_clip_of_which_no_file_could_be_opened_is_listed(made, own_raw, monkeypatch):
    """Without a source to compare it is stale at once; it is left out all the same, not lost."""
    note, lost = task.extract, "01-05-01-01-01-07"

    def refuse(clip, work):
        if clip.id != lost:
            return note(clip, work)
        reason = "expected a readable file, got: Permission denied; check its permissions"
        identity = clip.id, clip.actor, clip.emotion, work.file
        return facts.ClipEntry(*identity, (), reason=reason, transient=True), ()

    monkeypatch.setattr(task, "extract", refuse)
    write_take(own_raw, "01-01-05-01-01-01-07")
    for _ in (1, 2):
        done = make(own_raw, made)
        assert [entry.clip for entry in done.index.unreadable] == [lost]
        assert index.find_cache(made) == done.index and done.index.rows == 32
    monkeypatch.setattr(task, "extract", note)
    assert make(own_raw, made).index.rows == 34


def test_a_file_that_cannot_be_hashed_is_listed(made, own_raw, extracted, monkeypatch):
    """As one without permission, which root reads nevertheless."""
    path = next(own_raw.rglob(f"03-01-{TAKE}.wav"))
    hashed, call = file_sha256, guard.call

    def refuse(asked):
        if asked == path:
            raise PermissionError(13, "Permission denied", str(path))
        return hashed(asked)

    def refuse_in_child(target, clip, *given, limit_seconds):
        if path in clip.sources:
            return guard.Failure("expected a readable file", transient=True)
        return call(target, clip, *given, limit_seconds=limit_seconds)

    monkeypatch.setattr(sources, "file_sha256", refuse)
    monkeypatch.setattr(guard, "call", refuse_in_child)
    done = make(own_raw, made, check_content=True)
    assert [entry.clip for entry in done.index.unreadable] == [f"01-{TAKE}"]
    assert done.index.rows == 30 and len(extracted) == 4
    monkeypatch.undo()
    assert make(own_raw, made, check_content=True).index.rows == 32


def test_a_file_that_changes_on_the_way_is_in_the_index_as_it_was_read(
    made, own_raw, extracted, monkeypatch
):
    note, path = task.extract, next(own_raw.rglob(f"03-01-{TAKE}.wav"))
    write_take(own_raw, "01-01-06-01-01-01-02")

    def change(clip, work):
        if clip.id.endswith(TAKE):
            change_last_byte(path)
        return note(clip, work)

    monkeypatch.setattr(task, "extract", change)
    done = make(own_raw, made)
    assert done.index.rows == 34
    (entry,) = (clip for clip in done.index.clips if clip.clip.endswith(TAKE))
    assert entry.sources[1].sha256 == file_sha256(path)
    monkeypatch.setattr(task, "extract", note)
    assert make(own_raw, made, check_content=True).extracted == 0


def test_only_unreadable_clips_is_an_error(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "01-01-03-01-01-01-02.mp4").write_bytes(b"nothing")
    with pytest.raises(InputError, match="expected readable clips"):
        make(raw, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.h5"))


# Damage and interruption


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:1000]),
        lambda path: path.unlink(),
        lambda path: path.with_suffix(".json").write_text("{"),
        lambda path: path.with_suffix(".json").unlink(),
    ],
    ids=["shard cut", "shard gone", "manifest damaged", "manifest gone"],
)
def test_a_shard_that_is_not_whole_is_made_again(made, own_raw, folder, extracted, damage):
    before = lasting(folder)
    damage(folder / shards_of(folder, 3)[0])
    make(own_raw, made)
    assert set(extracted) == {f"01-{take}" for take in takes([3])}
    assert lasting(folder) == before


def test_an_interrupted_first_run_goes_on_at_the_next_shard(
    tiny, raw, tmp_path, extracted, monkeypatch
):
    note = task.extract

    def interrupt(clip, work):
        if len(extracted) == 10:
            raise KeyboardInterrupt
        return note(clip, work)

    monkeypatch.setattr(task, "extract", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make(raw, tmp_path)
    folder = tmp_path / TINY.digest
    assert [len(shards_of(folder, actor)) for actor in (1, 2, 3, 4)] == [1, 1, 0, 0]
    assert not list(folder.glob("*.partial"))
    with pytest.raises(InputError, match="no finished cache"):
        index.find_cache(tmp_path)
    monkeypatch.setattr(task, "extract", note)
    extracted.clear()
    make(raw, tmp_path)
    assert len(extracted) == 8
    assert lasting(folder) == lasting(tiny / TINY.digest)


def test_a_task_whose_shard_is_there_does_nothing(folder, monkeypatch):
    """So a second run, or a task that a scheduler sends out again, is harmless."""
    monkeypatch.setattr(guard, "call", None)
    before = tree(folder)
    (name,) = shards_of(folder, 1)
    work = task.ShardTask(folder, name, 1, (), folder, TINY, 0.0, folder / "progress")
    assert work.is_done() and task.make_shard(work) is None
    assert tree(folder) == before


def test_two_runs_at_once_where_no_lock_keeps_them_apart(made, own_raw, folder, monkeypatch):
    """The later one takes the shard that the earlier one has made meanwhile."""
    write_take(own_raw, "01-01-06-01-01-01-02")
    carry_out, states = build.carry_out, []

    def overtaken(*given):
        if not states:
            states.append({})
            make(own_raw, made)
            states[0] = tree(folder)
        return carry_out(*given)

    monkeypatch.setattr(lock, "held", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(build, "carry_out", overtaken)
    done = make(own_raw, made)
    assert done.index.rows == 34 and tree(folder) == states[0]
    assert index.find_cache(made) == done.index


def test_a_full_disk_is_refused_before_work(raw, tmp_path, monkeypatch, extracted):
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000)
    monkeypatch.setattr(build.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match="GiB of room at"):
        make(raw, tmp_path)
    assert not extracted


# More clips than one shard holds


@pytest.fixture
def many(tmp_path):
    """Twenty clips of one actor, which are one recording under as many names."""
    root = tmp_path / "many"
    first = write_take(root, "01-01-03-01-01-01-01", seconds=1.2)
    for number in range(19):
        name = f"01-01-{number % 7 + 2:02d}-0{number % 2 + 1}-0{number // 14 + 1}-02-01.mp4"
        os.link(first, first.with_name(name))
    return root


def test_a_large_actor_has_several_shards_and_one_more_clip_disturbs_one(many, tmp_path, extracted):
    done = make(many, tmp_path / "cache")
    folder = tmp_path / "cache" / TINY.digest
    assert [shard.rows <= 32 for shard in done.index.shards] == [True, True]
    assert sum(shard.rows for shard in done.index.shards) == done.index.rows
    before, extracted[:] = hashes(folder), []
    write_take(many, "01-01-08-02-02-02-01", seconds=1.2)
    make(many, tmp_path / "cache")
    assert 0 < len(extracted) <= 17 and before.items() <= hashes(folder).items()
    assert not faults(folder)


# Explaining


def test_explain_says_where_a_clip_is_or_why_it_is_made(made, own_raw, folder):
    clip = f"01-{TAKE}"
    (name,) = shards_of(folder, 2)
    found = scan.scan(own_raw)
    said = explain.explain(found, made, TINY, clip)
    assert f"cached in {folder / name}, rows" in said and "numpy" in said
    change_last_byte(next(own_raw.rglob(f"03-01-{TAKE}.wav")))
    said = explain.explain(found, made, TINY, "01-08-01-01-01-02")
    assert f"because {clip}: the content of audios/Actor_02/03-01-{TAKE}.wav changed" in said
    with pytest.raises(InputError, match="a clip is named by its take"):
        explain.explain(found, made, TINY, "x")
    assert "not cached yet" in explain.explain(found, made / "none", TINY, clip)
