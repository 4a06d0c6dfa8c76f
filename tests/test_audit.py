"""Every kind of fault, planted once, is found once, under its name."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import soundfile
from conftest import FRAME_RATE, RATE, tone, write_take, write_video, write_wav

from pipeline import __main__ as cli
from pipeline.corpora import audit, catalogue, measure
from pipeline.corpora.catalogue import Catalog
from pipeline.media import encode
from pipeline.spec import FeatureSpec

FINE = measure.Facts(
    "anna/1.mp4", 1, {"anna/1.mp4": "a"}, (), 2.0, 2.1, "digest", 0.5, 0.0, 30.0, 0, True
)


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
    uneven = [n / FRAME_RATE for n in range(17) if n != 9]
    frames = ((time, np.full((48, 64, 3), 90, np.uint8)) for time in uneven)
    encode.write_mp4(video(1, 2), frames, None, RATE)
    write_video(video(2, 2), 1.6, frame_rate=25)
    shutil.copy(video(8, 1), root / "videos/Actor_01/01-01-08-01-01-01-03.mp4")
    write_wav(root / "audios/Actor_02/03-01-08-02-01-01-02.wav", tone(1.0))
    (root / "videos/notes.mp4").write_text("version https://git-lfs.github.com/spec/v1\n")
    return root


@pytest.fixture(scope="module")
def facts(faulty):
    return measure.measure_all(catalogue.scan(faulty), FeatureSpec(), jobs=2, progress=False)


def test_every_planted_fault_is_found_once(faulty, facts):
    found = catalogue.scan(faulty)
    assert [fact.clip for fact in facts] == [clip.id for clip in found.clips]
    findings = audit.judge(found, facts)
    names = {}
    for finding in findings:
        names.setdefault(finding.kind, []).append(finding.names)
    assert list(names) == list(audit.KINDS)
    assert len(names.pop("missing")) == 1
    assert len(names.pop("no face")) == 15
    assert names == {
        "unreadable": [(clip(6, 1),)],
        "misfiled": [("videos/Actor_01/01-01-08-01-01-01-03.mp4",)],
        "copied across actors": [(clip(5, 1), clip(5, 2))],
        "copied": [(clip(3, 1), clip(4, 1))],
        "apart": [(clip(8, 2),)],
        "silent": [(clip(6, 2),)],
        "clipped": [(clip(7, 2),)],
        "other frame rate": [(clip(2, 2),)],
        "uneven frames": [(clip(1, 2),)],
        "set aside": [("audios/Actor_02/03-01-08-02-01-01-02.wav",), ("videos/notes.mp4",)],
    }
    (details,) = [finding.detail for finding in findings if finding.kind == "apart"]
    assert details == "2.20 s of sound, 1.60 s of video"
    details = {finding.names[-1]: finding.detail for finding in findings[1:]}
    assert "a web page" in details[clip(6, 1)]
    assert "git-LFS" in details["videos/notes.mp4"]


def test_the_command_prints_a_table_and_writes_everything(
    faulty, facts, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(measure, "measure_all", lambda catalogue, spec, jobs: facts)
    out = tmp_path / "new" / "audit.json"
    words = ["audit", "--raw", str(faulty), "--out", str(out), "--jobs", "1"]
    codes = []
    for options in ([], ["--strict"]):
        arguments = cli.parser().parse_args([*words, *options])
        codes.append(arguments.run(arguments))
    assert codes == [0, 1]
    said = capsys.readouterr().out.splitlines()
    assert len(said) < 80
    lines = [line for line in said if line.startswith(" " * 8)]
    assert (
        f"{'':8}1424 of 1440 speech clips: all of actors 3-24, 52 of actor 1, 52 of actor 2"
        in lines
    )
    assert said[-1].endswith(f"all of them in {out}") and "16 clips of 2 actors" in said[-1]
    written = json.loads(out.read_text())
    assert len(written["facts"]) == written["clips"] == 16
    missing = written["findings"][0]
    assert missing["kind"] == "missing" and len(missing["names"]) == 1424
    assert [path.name for path in out.parent.iterdir()] == ["audit.json"]


def test_nothing_is_found_where_nothing_is_wrong(tmp_path):
    assert audit.judge(Catalog(tmp_path), [FINE]) == []
    assert audit.table([]) == ""


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"sound_seconds": 2.31}, "apart"),
        ({"sound_digest": None, "peak": 0.0}, "silent"),
        ({"clipped_part": 0.002}, "clipped"),
        ({"face_found": False}, "no face"),
        ({"uneven_gaps": 1}, "uneven frames"),
        ({"problems": ("expected x, got y",)}, "unreadable"),
    ],
)
def test_one_fact_decides_one_finding(tmp_path, changes, kind):
    findings = audit.judge(Catalog(tmp_path), [dataclasses.replace(FINE, **changes)])
    assert [finding.kind for finding in findings] == [kind]


def every_ravdess_clip(channel):
    (finding,) = audit.missing(
        [measure.Facts(f"{catalogue.CHANNELS[channel]}-01-01-01-01-25", 25, {})]
    )
    return finding.names


@pytest.mark.parametrize(("channel", "total"), [("speech", 1440), ("song", 1012)])
def test_ravdess_has_as_many_clips_as_published(channel, total):
    names = every_ravdess_clip(channel)
    assert len(set(names)) == len(names) == total
    whole = [measure.Facts(name, int(name[-2:]), {}) for name in names]
    assert audit.missing(whole) == []
    (finding,) = audit.missing(whole[1:])
    assert finding.names == names[:1]
    assert finding.detail == f"1 of {total} {channel} clips: 1 of actor 1"
    neutral = [name for name in names if name[3:5] == "01" and name.endswith("-02")]
    assert len(neutral) == 4


def test_ranges():
    assert audit.ranges([1, 2, 3, 9, 11, 12]) == "1-3, 9, 11-12"


def test_the_same_clip_by_file_and_by_sound_is_one_finding():
    other = dataclasses.replace(FINE, clip="ben/1.mp4", actor=2)
    (finding,) = audit.copies([FINE, other])
    assert finding.kind == "copied across actors"
    assert finding.detail == "anna/1.mp4 = ben/1.mp4: the same file and the same sound"
