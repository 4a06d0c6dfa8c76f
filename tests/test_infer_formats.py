"""Results as files: each format read back by a reader of its own."""

import csv
import io
import json
import os
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import numpy as np
import pytest

from infer.output import formats, timeline
from infer.output.strips import by_face, joined, strips
from infer.prediction.results import FACE, VOICE, VOICE_AND_FACE, Result, WindowPrediction
from infer.reading.tracks import Track
from pipeline.errors import InputError
from pipeline.features.detectors import Box
from pipeline.spec import EMOTIONS


def window(start, label, track=1, probability=0.6, voice="sad", basis=VOICE_AND_FACE):
    values = np.full(8, (1 - probability) / 7, np.float32)
    values[EMOTIONS.index(label)] = probability
    heard = np.eye(8, dtype=np.float32)[EMOTIONS.index(voice)] if voice else None
    box = Box(10, 20, 30, 30) if track else None
    sure = 0.9 if track else None
    faced = values if track else None
    return WindowPrediction(
        *(start, start + 2.0, track, values, heard, faced, basis, box, sure, 1.0, values, label)
    )


def result_of(*windows, seconds=6.0, name="a<b>.mp4", **options):
    numbers = sorted({w.track for w in windows if w.track})
    found = tuple(
        Track(number, [0.0, 0.4], [Box(1, 2, 3, 4)] * 2, [0.8, 0.9]) for number in numbers
    )
    windows = tuple(sorted(windows, key=lambda w: (w.start_seconds, w.track or 0)))
    notes = ("two --> faces",)
    return Result(Path("in") / name, seconds, 25.0, (640, 360), windows, found, notes, **options)


@pytest.fixture
def result():
    """Face 1 all the time, face 2 in the middle."""
    labels = ("happy", "happy", "sad", "sad", "angry")
    first = [window(start, label) for start, label in enumerate(labels)]
    return result_of(*first, window(1, "fearful", 2), window(2, "fearful", 2))


def test_each_moment_has_the_nearest_window(result):
    spans = by_face(result)
    assert list(spans) == ["face 1", "face 2"]
    times = [(said.start_seconds, said.end_seconds, said.label) for said in spans["face 1"]]
    assert times == [
        (0, 1.5, "happy"),
        (1.5, 2.5, "happy"),
        (2.5, 3.5, "sad"),
        (3.5, 4.5, "sad"),
        (4.5, 6, "angry"),
    ]
    whole = joined(spans["face 1"])
    assert [(said.start_seconds, said.end_seconds) for said in whole] == [
        (0, 2.5),
        (2.5, 4.5),
        (4.5, 6),
    ]
    assert [(said.start_seconds, said.end_seconds) for said in joined(spans["face 2"])] == [(1, 4)]
    assert list(strips(result)) == [
        *("face 1", "face 1 alone", "face 2", "face 2 alone", "voice alone")
    ]
    apart = by_face(result_of(window(0, "sad", None), window(3, "sad", None)))
    assert [said[:2] for said in joined(apart["no face"])] == [(0, 2), (3, 5)]


def test_the_answer_is_the_weighted_mean_of_the_main_face():
    import dataclasses

    first = dataclasses.replace(window(0, "sad"), weight=0.25)
    second = dataclasses.replace(window(1, "fearful"), weight=0.75)
    other = window(1, "happy", 2)
    result = result_of(first, second, other)
    expected = 0.25 * first.probabilities + 0.75 * second.probabilities
    assert result.probabilities == pytest.approx(expected)
    assert result.emotion == "fearful" and len(result.main) == 2
    unheard = result_of(*(dataclasses.replace(w, weight=0.0) for w in (first, second)))
    assert unheard.probabilities == pytest.approx((first.probabilities + second.probabilities) / 2)
    assert result_of(window(0, "sad", None, basis=VOICE)).face is None
    assert result_of(window(0, "sad", voice=None, basis=FACE)).voice is None


def test_json_and_csv_say_the_same(result):
    content = json.loads(formats.json_text(result))
    assert content["file"] == "a<b>.mp4" and content["emotion"] == result.emotion
    assert sum(content["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert [track["track"] for track in content["tracks"]] == [1, 2]
    assert content["tracks"][0]["boxes"][0] == [0.0, 1.0, 2.0, 3.0, 4.0, 0.8]
    rows = list(csv.DictReader(io.StringIO(formats.csv_text(result))))
    assert [row["emotion"] for row in rows] == [w["emotion"] for w in content["windows"]]
    assert [row["track"] for row in rows] == [str(w["track"]) for w in content["windows"]]
    assert {row["voice"] for row in rows} == {"sad"}
    assert float(rows[0]["happy"]) == pytest.approx(0.6)


CUE = re.compile(r"(\d\d):(\d\d):(\d\d\.\d{3}) --> (\d\d):(\d\d):(\d\d\.\d{3})\n(.*)\n\n")


def test_vtt_has_a_cue_for_each_stretch(result):
    text = formats.vtt_text(result)
    assert text.startswith("WEBVTT\n\nNOTE two → faces\n\n")
    cues = CUE.findall(text)
    starts = [3600 * int(h) + 60 * int(m) + float(s) for h, m, s, *_ in cues]
    assert starts == sorted(starts) and len(cues) == 4
    assert cues[0][-1] == "<v face 1>happy 60 %"
    alone = formats.vtt_text(result_of(window(0, "sad")))
    assert CUE.findall(alone)[0][-1] == "sad 60 %"
    assert formats.clock(3723.4567) == "01:02:03.457" and formats.clock(59.9999) == "00:01:00.000"


def test_eaf_has_a_tier_for_each_face_and_the_voice(result):
    text = formats.eaf_text(result, "a<b>.mp4")
    root = ElementTree.fromstring(text)
    tiers = {tier.get("TIER_ID"): tier for tier in root.iter("TIER")}
    assert set(tiers) == set(strips(result))
    times = {
        slot.get("TIME_SLOT_ID"): int(slot.get("TIME_VALUE")) for slot in root.iter("TIME_SLOT")
    }
    first = next(tiers["face 2"].iter("ALIGNABLE_ANNOTATION"))
    assert [times[first.get(f"TIME_SLOT_REF{n}")] for n in (1, 2)] == [1000, 4000]
    assert first.findtext("ANNOTATION_VALUE") == "fearful 60 %"
    assert root.find("HEADER/MEDIA_DESCRIPTOR").get("MEDIA_URL") == "a<b>.mp4"


def test_textgrid_intervals_cover_the_recording(result):
    text = formats.textgrid_text(result)
    tiers = text.split('class = "IntervalTier"')[1:]
    assert len(tiers) == len(strips(result))
    for tier in tiers:
        times = [float(t) for t in re.findall(r"xm(?:in|ax) = ([\d.]+)", tier)]
        assert times[:2] == [0, 6] and times[2] == 0 and times[-1] == 6
        assert times[3:-1:2] == times[4::2]
    assert 'text = "happy 60 %"' in tiers[0]


def test_the_timeline_has_every_stretch(result):
    page = timeline.html_text(result, "in/a<b>.mp4")
    assert page.count("<rect ") == sum(map(len, strips(result).values()))
    assert "a&lt;b&gt;.mp4: happy" in page and 'src="in/a%3Cb%3E.mp4"' in page
    assert "<b>" not in page and "http" not in page.replace("http://www.w3.org/2000/svg", "")
    picture = cv2.imdecode(np.frombuffer(timeline.png_bytes(result), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[1] > 1000
    long = result_of(*(window(n, "sad") for n in range(5)), seconds=6 * 3600)
    assert timeline.svg_text(long).count('class="tick"') <= timeline.MOST_TICKS + 1


def test_files_are_written_under_their_names(result, tmp_path):
    stem = tmp_path / "made" / "a.b"
    files = formats.write(result, stem, tuple(formats.FORMATS))
    assert [path.name for path in files] == [
        *("a.b.json", "a.b.csv", "a.b.vtt", "a.b.eaf", "a.b.TextGrid", "a.b.png", "a.b.html")
    ]
    assert (
        all(path.stat().st_size > 100 for path in files) and len(list(stem.parent.iterdir())) == 7
    )


def test_a_file_links_to_what_there_is_to_play(result, tmp_path):
    for name in ("a.eaf", "a.html"):
        formats.write(result, tmp_path / "out" / "a", ("eaf", "html"))
        text = (tmp_path / "out" / name).read_text()
        assert f"{os.path.relpath('in', tmp_path / 'out')}/a%3Cb%3E.mp4" in text
    (tmp_path / "out" / "a.mp4").touch()
    formats.write(result, tmp_path / "out" / "a", ("eaf", "html"))
    assert 'RELATIVE_MEDIA_URL="./a.mp4"' in (tmp_path / "out" / "a.eaf").read_text()


def test_names_of_formats():
    assert formats.formats_of("json, CSV") == ("json", "csv")
    assert formats.formats_of("all") == tuple(formats.FORMATS)
    with pytest.raises(InputError, match="got srt"):
        formats.formats_of("json,srt")
