import dataclasses
import hashlib
import json
import os
import shutil

import h5py
import joblib
import numpy as np
import pytest
from conftest import tally, write_take, write_video, write_wav

from pipeline import workers
from pipeline.cache import build, contents, index, plan, shards, verify
from pipeline.corpora import catalogue
from pipeline.errors import InputError
from pipeline.features import extract
from pipeline.media import audio, video
from pipeline.spec import EMOTIONS, FeatureSpec


def make(raw, cache, spec, jobs=1):
    return build.build(catalogue.scan(raw), cache, spec, jobs=jobs, progress=False)


def hashes(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("*.h5"))
    }


@pytest.fixture
def own_raw(raw, tmp_path):
    shutil.copytree(raw, tmp_path / "raw")
    return tmp_path / "raw"


@pytest.fixture
def made(cache, spec, own_raw, tmp_path):
    """A finished cache of ``own_raw`` that a test may change."""
    shutil.copytree(cache, tmp_path / "cache")
    make(own_raw, tmp_path / "cache", spec)
    return tmp_path / "cache"


def test_a_shard_holds_one_actor_and_says_what_it_is(cache, spec):
    folder = cache / spec.digest
    assert sorted(path.name for path in folder.iterdir()) == [
        "actor-01.h5",
        "actor-02.h5",
        "actor-03.h5",
        "actor-04.h5",
        "index.json",
    ]
    with h5py.File(folder / "actor-03.h5") as file:
        assert file["mfcc"].shape == (8, 40, 44, 1) and file["mfcc"].dtype == np.float32
        assert file["frames"].shape == (8, 20, 112, 112, 3) and file["frames"].dtype == np.uint8
        assert file["label"][:].tolist() == [0, 0, 2, 2, 4, 4, 7, 7]
        assert file["variant"].asstr()[:].tolist() == ["clean", "pitch"] * 4
        assert {clip[-2:] for clip in file["clip"].asstr()} == {"03"}
        assert file["face_found"].shape == (8,)
        assert file["checksum"].shape == (8,) and file["checksum"].dtype == np.uint32
        assert dict(file.attrs) == {
            "format_version": 2,
            "digest": spec.digest,
            "spec": spec.to_json(),
            "actor": 3,
        }


def test_the_index_matches_the_shards(cache, spec):
    found = index.find_cache(cache)
    assert found.spec == spec and found.actors == [1, 2, 3, 4] and found.rows == 32
    assert {shard.file: shard.sha256 for shard in found.shards} == hashes(found.folder)
    assert [entry.emotion for entry in found.clips[:4]] == [EMOTIONS[n] for n in (0, 2, 4, 7)]


def test_rows_are_what_inference_computes(cache, raw, spec):
    """A cached clean row equals, byte for byte, the features of the raw file."""
    clip = catalogue.scan(raw).clips[5]
    waveform = audio.read_waveform(clip.sound, spec.sample_rate_hz)
    span = extract.clip_span(waveform, spec)
    (window,) = extract.read_windows(waveform, clip.video, [span], spec, threads=0)
    fresh = extract.featurize(window, extract.find_face(window, spec), spec)
    with h5py.File(cache / spec.digest / f"actor-{clip.actor:02d}.h5") as file:
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
    rows = extract.extract_clip(catalogue.Clip("a", 1, "happy", path), spec)
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


@pytest.mark.torture
def test_any_number_of_jobs_writes_the_same_bytes(cache, raw, spec, tmp_path):
    make(raw, tmp_path, spec, jobs=2)
    assert hashes(tmp_path / spec.digest) == hashes(cache / spec.digest)
    tally("same bytes: jobs, backend, order of the folder", 1, 1)


@pytest.mark.torture
def test_neither_backend_nor_order_of_the_folder_changes_a_byte(
    cache, raw, spec, tmp_path, monkeypatch
):
    """Threads instead of processes, and a file system that lists everything backwards."""
    walk = catalogue.os.walk

    def backwards(root, **options):
        for folder, subfolders, names in walk(root, **options):
            subfolders.reverse()
            yield folder, subfolders, names[::-1]

    monkeypatch.setattr(catalogue.os, "walk", backwards)
    with joblib.parallel_config(backend="threading"):
        make(raw, tmp_path, spec, jobs=2)
    assert hashes(tmp_path / spec.digest) == hashes(cache / spec.digest)
    names = [folder / spec.digest / "index.json" for folder in (tmp_path, cache)]
    assert names[0].read_bytes() == names[1].read_bytes()
    tally("same bytes: jobs, backend, order of the folder", 1, 1)


def test_nothing_changed_opens_no_media(made, own_raw, spec, monkeypatch):
    def opened(path):
        raise AssertionError(f"{path} was opened")

    for reader in (video, audio):
        monkeypatch.setattr(reader, "opened", opened)
    before = (made / spec.digest / "index.json").stat().st_mtime_ns
    done = make(own_raw, made, spec)
    assert (done.extracted, done.index.rows) == (0, 32)
    assert (made / spec.digest / "index.json").stat().st_mtime_ns == before


def test_a_touched_file_is_not_extracted_again(made, own_raw, spec, extracted):
    next(own_raw.rglob("*.wav")).touch()
    make(own_raw, made, spec)
    assert extracted == []


def test_a_changed_file_changes_its_own_rows_alone(made, own_raw, spec, extracted):
    before = hashes(made / spec.digest)
    write_take(own_raw, "01-01-05-01-01-01-02", hertz=999)
    make(own_raw, made, spec)
    after = hashes(made / spec.digest)
    assert extracted == ["01-05-01-01-01-02"]
    assert {name for name in before if before[name] != after[name]} == {"actor-02.h5"}
    shutil.rmtree(made)
    make(own_raw, made, spec)
    assert hashes(made / spec.digest) == after


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


@pytest.mark.torture
@pytest.mark.parametrize(
    ("change", "made_again"),
    [
        (lambda root: change_last_byte(next(root.rglob(f"03-01-{TAKE}.wav"))), {TAKE}),
        (lambda root: change_last_byte(next(root.rglob(f"01-01-{TAKE}.mp4"))), {TAKE}),
        (lambda root: rename(root, (f"01-01-{TAKE}", f"02-01-{TAKE}")), {TAKE}),
        (lambda root: rename(root, (TAKE, "06-01-01-01-02")), takes([2], [6])),
        (lambda root: rename(root, (f"Actor_02/01-01-{TAKE}", f"01-01-{TAKE}")), {TAKE}),
        (lambda root: next(root.rglob(f"03-01-{TAKE}.wav")).unlink(), {TAKE}),
        (lambda root: rename(root, ("_02", "_09"), ("-02.", "-09.")), takes([9])),
        (lambda root: rename(root, ("Actor_", "actor ")), takes([1, 2, 3, 4])),
        (lambda root: [path.touch() for path in root.rglob("*.*")], set()),
        (lambda root: [path.write_bytes(path.read_bytes()) for path in root.rglob("*.wav")], set()),
        (lambda root: (root / "notes.txt").write_text("new"), set()),
    ],
    ids=[
        "sound changed",
        "video changed",
        "video renamed",
        "emotion renamed",
        "video moved",
        "sound removed",
        "actor renamed",
        "folders renamed",
        "all touched",
        "same bytes written",
        "a file that is no media",
    ],
)
def test_exactly_the_right_rows_are_made_again(made, own_raw, spec, extracted, change, made_again):
    before = hashes(made / spec.digest)
    change(own_raw)
    done = make(own_raw, made, spec)
    assert sorted(extracted) == sorted(f"01-{take}" for take in made_again)
    after = hashes(made / spec.digest)
    touched = {f"actor-{int(take[-2:]):02d}.h5" for take in made_again}
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == touched and after.keys() == {shard.file for shard in done.index.shards}
    assert not verify.check_cache(made / spec.digest, progress=False).faults
    tally("stale: raw files added, changed, removed, renamed, touched", 1, 1)


@pytest.mark.torture
@pytest.mark.parametrize("field", dataclasses.fields(FeatureSpec), ids=lambda field: field.name)
def test_no_row_outlives_a_change_of_the_spec(cache, raw, spec, tmp_path, field):
    """Neither in the folder of the changed spec, nor if the old files are moved there."""
    other = {int: 7, float: 1.5, str: "other", tuple: ("noise",)}[type(field.default)]
    changed = dataclasses.replace(spec, **{field.name: other})
    found = catalogue.scan(raw)
    assert changed.digest != spec.digest
    shutil.copytree(cache / spec.digest, tmp_path / changed.digest, copy_function=os.link)
    known = contents.survey(tmp_path / changed.digest, changed)
    plans = plan.plan_shards(found, known)
    assert [clip for one in plans for clip in one.missing] == found.clips
    same = plan.plan_shards(found, contents.survey(cache / spec.digest, spec))
    assert not any(one.missing for one in same)
    tally("stale: each field of the spec", 1, 1)


def test_added_and_removed_files(made, own_raw, spec, extracted):
    before = hashes(made / spec.digest)
    added = write_take(own_raw, "01-01-06-01-01-01-02")
    assert make(own_raw, made, spec).index.rows == 34
    assert extracted == ["01-06-01-01-01-02"]
    added.unlink()
    assert make(own_raw, made, spec).index.rows == 32
    assert hashes(made / spec.digest) == before
    for path in own_raw.rglob("*-04.*"):
        path.unlink()
    assert make(own_raw, made, spec).index.actors == [1, 2, 3]
    assert extracted == ["01-06-01-01-01-02"]
    assert not (made / spec.digest / "actor-04.h5").exists()


def test_an_interrupted_run_goes_on_at_the_next_shard(cache, raw, spec, tmp_path, monkeypatch):
    extract, calls = build.extract, []

    def interrupt(clip, root, spec):
        calls.append(clip.id)
        if len(calls) == 11:
            raise KeyboardInterrupt
        return extract(clip, root, spec)

    monkeypatch.setattr(build, "extract", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make(raw, tmp_path, spec)
    folder = tmp_path / spec.digest
    assert sorted(path.name for path in folder.iterdir()) == ["actor-01.h5", "actor-02.h5"]
    with pytest.raises(InputError, match="no finished cache"):
        index.find_cache(tmp_path)
    calls.clear()
    calls += ["resumed"] * 11
    make(raw, tmp_path, spec)
    assert len(calls) == 11 + 8
    assert hashes(folder) == hashes(cache / spec.digest)


def test_a_clip_that_cannot_be_read_stops_nothing(made, own_raw, spec, extracted):
    video = next(own_raw.rglob("01-01-03-01-01-01-02.mp4"))
    video.write_bytes(b"<html></html>")
    done = make(own_raw, made, spec)
    assert [entry.clip for entry in done.failed] == ["01-03-01-01-01-02"]
    assert "a web page" in done.failed[0].reason
    assert done.index.rows == 30
    with h5py.File(made / spec.digest / "actor-02.h5") as file:
        assert len(file["frames"]) == len(file["mfcc"]) == len(file["label"]) == 6
        assert file["label"][:].tolist() == [0, 0, 4, 4, 7, 7]
        assert all(file["frames"][row].any() for row in range(6))
    again = make(own_raw, made, spec)
    assert (len(again.failed), extracted) == (1, ["01-03-01-01-01-02"])


def test_a_clip_that_took_its_worker_along_is_listed_and_tried_again(
    raw, cache, spec, tmp_path, monkeypatch
):
    lost = "01-05-01-01-01-02"

    def lose_one(work, clips, jobs, limit_seconds):
        assert (jobs, limit_seconds) == (1, 60.0)
        for clip in clips:
            yield workers.Lost("expected an end") if clip.id == lost else work(clip)

    monkeypatch.setattr(workers, "in_order", lose_one)
    done = build.build(
        catalogue.scan(raw), tmp_path, spec, jobs=1, progress=False, clip_timeout_seconds=60.0
    )
    assert [(entry.clip, entry.reason) for entry in done.failed] == [(lost, "expected an end")]
    assert done.index.rows == 30
    again = make(raw, tmp_path, spec)
    assert (again.extracted, again.failed) == (1, [])
    assert hashes(tmp_path / spec.digest) == hashes(cache / spec.digest)


def test_only_unreadable_clips_is_an_error(tmp_path, spec):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "01-01-03-01-01-01-02.mp4").write_bytes(b"nothing")
    with pytest.raises(InputError, match="expected readable clips"):
        make(raw, tmp_path / "cache", spec)
    assert not list((tmp_path / "cache").rglob("*.h5"))


def test_a_damaged_shard_is_made_again(made, own_raw, spec, extracted):
    before = hashes(made / spec.digest)
    path = made / spec.digest / "actor-03.h5"
    path.write_bytes(path.read_bytes()[:100_000])
    make(own_raw, made, spec)
    assert len(extracted) == 4 and hashes(made / spec.digest) == before


def test_a_full_disk_is_refused_before_work(raw, spec, tmp_path, monkeypatch, extracted):
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(build.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match=r"expected 0\.02 GiB of room"):
        make(raw, tmp_path, spec)
    assert not extracted


def test_a_disk_that_fills_up_leaves_no_half_shard(raw, spec, tmp_path, monkeypatch):
    append = shards.ShardWriter.append

    def refuse(writer, clip, *rest):
        if clip.id == "01-05-01-01-01-02":
            raise OSError(28, "No space left on device")
        append(writer, clip, *rest)

    monkeypatch.setattr(shards.ShardWriter, "append", refuse)
    with pytest.raises(OSError, match="No space left"):
        make(raw, tmp_path, spec)
    assert [path.name for path in (tmp_path / spec.digest).iterdir()] == ["actor-01.h5"]


def test_a_large_actor_gets_numbered_shards(raw, spec, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "CLIPS_PER_SHARD", 3)
    found = make(raw, tmp_path, spec).index
    assert [shard.file for shard in found.shards[:2]] == ["actor-01.h5", "actor-01-2.h5"]
    assert found.rows == 32 and found.actors == [1, 2, 3, 4]


def test_sound_of_the_video_is_used_without_a_wav(tmp_path, spec):
    sound = np.random.default_rng(0).normal(0, 0.1, 30_000).astype(np.float32)
    write_video(tmp_path / "01-01-03-01-01-01-02.mp4", sound=sound)
    own = make(tmp_path, tmp_path / "a", spec)
    write_wav(tmp_path / "03-01-03-01-01-01-02.wav", sound)
    paired = make(tmp_path, tmp_path / "a", spec)
    assert len(own.index.clips[0].sources) == 1 and len(paired.index.clips[0].sources) == 2
    assert (own.extracted, paired.extracted) == (1, 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format_version": 1}, "expected cache format 2"),
        ({"spec": {}}, "fields of this version's spec"),
        ({"clips": [{}]}, "expected an index of this version"),
    ],
)
def test_foreign_indexes_are_refused(made, spec, change, said):
    path = made / spec.digest / "index.json"
    content = json.loads(path.read_text()) | change
    sha256 = index.content_sha256({k: v for k, v in content.items() if k != "sha256"})
    path.write_text(json.dumps(content | {"sha256": sha256}))
    with pytest.raises(InputError, match=said):
        index.find_cache(made)


def test_foreign_shards_are_refused(made, spec, tmp_path):
    path = made / spec.digest / "actor-01.h5"
    with pytest.raises(InputError, match="expected features of spec"):
        contents.open_shard(path, FeatureSpec())
    text = path.read_bytes()
    path.write_bytes(text.replace(b'"format_version": 2', b'"format_version": 9', 1))
    with pytest.raises(InputError, match="expected shard format 2"):
        contents.open_shard(path, spec)
    path.write_bytes(text[:-1] + b"x")
    with pytest.raises(InputError, match="expected the structure of"):
        contents.open_shard(path, spec)
    with pytest.raises(InputError, match="expected a sealed shard"):
        contents.open_shard(made / spec.digest / "index.json", spec)
    with pytest.raises(InputError, match="got nothing"):
        contents.open_shard(tmp_path / "none.h5", spec)


def test_which_cache_is_meant(cache, raw, spec, tmp_path):
    assert index.find_cache(cache / spec.digest).spec == spec
    shutil.copytree(cache, tmp_path / "two")
    other = FeatureSpec(variants=())
    make(raw, tmp_path / "two", other)
    with pytest.raises(InputError, match="expected one finished cache"):
        index.find_cache(tmp_path / "two")
    make(raw, tmp_path / "two", FeatureSpec())
    assert index.find_cache(tmp_path / "two").spec == FeatureSpec()
