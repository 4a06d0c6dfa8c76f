"""The report page: what it shows, that it is whole, and that names do not become markup."""

import base64
import dataclasses
import html.parser
import json
import re
from collections import Counter

import cv2
import numpy as np
import pytest
from conftest import TINY, flip
from report_page import NASTY, write_everything, write_page

from pipeline.cache import index
from pipeline.cache.format import CachedRow
from pipeline.errors import InputError
from train.page import markup, rows, worst


class Reader(html.parser.HTMLParser):
    """Elements with their attributes and text, and whether they are closed as they are opened."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found, self.text = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in markup.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text.append(data)

    def words(self):
        return " ".join(" ".join(self.text).split())

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return write_everything(tmp_path_factory.mktemp("page"), TINY)


@pytest.fixture(scope="module")
def page(places):
    out = places["cache"].parent / "pages" / "report.html"
    assert write_page(out, **places) == 0
    return Reader(out.read_text(encoding="utf-8"))


def test_a_reader_sees_result_data_faults_and_worst_clips_in_this_order(page):
    titles = re.findall(r"#([a-z-]+)", " ".join(link["href"] for link in page.all("a")))
    assert titles[:4] == ["result", "data", "faults", "worst-clips"]
    assert {"confusion-and-calibration", "robustness", "contact-sheet"} <= set(titles)
    ids = [heading["id"] for heading in page.all("h2")]
    assert ids == titles
    said = page.words()
    # Actor 3's five clips are wrong: one of two of each of these emotions.
    assert "50.0 %" in said and "10 clips of 2 actors (3-4)" in said
    assert "Chance is 20.0 %" in said and "Single actors: 0 % to 100 %" in said
    assert "on actors 1; actors 2 decided when to stop" in said
    assert "seed 7" in said and "keras 9.9" in said and "2 files, by SHA-256" in said
    assert "5 of 10 test clips are answered wrongly" in said
    assert "Later tests (make evaluate)" in said and "cache-actors-3-4" in said


def test_nothing_is_fetched_and_every_image_says_what_it_is(page):
    addresses = [
        value
        for _, attributes in page.found
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "poster")
    ]
    assert addresses and not [each for each in addresses if not each.startswith(("data:", "#"))]
    assert not page.all("script") and not page.all("link")
    assert all(image["alt"] for image in page.all("img"))
    drawings = [drawn for drawn in page.all("svg") if drawn.get("role") == "img"]
    assert len(drawings) == 7 and all(drawn["aria-label"] for drawn in drawings)


def test_names_are_text_wherever_they_are_shown(page, places):
    text = (places["cache"].parent / "pages" / "report.html").read_text(encoding="utf-8")
    assert "<b>x" not in text
    # Heading, corpus, actor, audit, reason, and what is said of pictures.
    assert page.words().count(NASTY) >= 5
    assert [image for image in page.all("img") if NASTY in image["alt"]]


def test_faults_are_named_with_their_reasons(page):
    said = page.words()
    assert "1 clip could not be read" in said and f"lost 4 sad expected frames, got {NASTY}" in said
    assert "silent: audio that never rises" in said and f"{NASTY}: peak 0.000001" in said


def test_the_worst_clip_comes_first_with_its_recording(page):
    names = [text for text in page.text if text == NASTY or text.startswith("01-0")]
    assert NASTY in names
    (video,) = page.all("video")
    assert video["src"].startswith("data:video/mp4;base64,")
    assert video["poster"].startswith("data:image/jpeg;base64,")
    # The recordings of all other clips were made up.
    assert page.words().count("is not in the raw folder") == 4


def test_a_large_recording_is_linked_to_and_a_changed_one_is_not_shown(
    places, tmp_path, monkeypatch
):
    monkeypatch.setattr(worst, "EMBEDDED_BYTES", 1000)
    out = places["cache"].parent / "linked.html"
    write_page(out, **places)
    linked = Reader(out.read_text(encoding="utf-8"))
    (video,) = linked.all("video")
    assert video["src"] == "raw/%3Cb%3Ex%20%26%20%27y%27.mp4" and video["preload"] == "none"
    other = tmp_path / "raw"
    other.mkdir()
    (other / f"{NASTY}.mp4").write_bytes(b"other")
    write_page(out, **places | {"raw": other})
    changed = Reader(out.read_text(encoding="utf-8"))
    assert not changed.all("video") and "has changed since it was extracted" in changed.words()


def test_a_cache_alone_and_a_model_alone_have_a_page(places, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert write_page("cache.html", cache=places["cache"]) == 0
    said = Reader((tmp_path / "cache.html").read_text(encoding="utf-8")).words()
    assert "There is no model at data/model." in said and "Contact sheet" in said
    assert "Worst clips" not in said
    assert write_page("model.html", model=places["model"]) == 0
    alone = Reader((tmp_path / "model.html").read_text(encoding="utf-8"))
    assert "There is no cache at data/cache." in alone.words()
    assert "Worst clips" in alone.words() and not alone.all("img")
    assert "report: model.html (" in capsys.readouterr().out
    with pytest.raises(InputError, match="expected a cache in data/cache or a model in data/model"):
        write_page("none.html")
    with pytest.raises(InputError, match="expected a model in gone, got nothing"):
        write_page("none.html", model="gone")
    assert not (tmp_path / "none.html").exists()


def test_a_model_that_was_never_tested_has_a_page(places, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    content = json.loads((places["model"] / "model.json").read_text()) | {"metrics": {}}
    (tmp_path / "model" / "model.json").write_text(json.dumps(content))
    assert write_page("page.html", model="model", cache=places["cache"]) == 0
    said = Reader((tmp_path / "page.html").read_text(encoding="utf-8")).words()
    assert "The model was not tested." in said


def test_a_damaged_file_of_a_model_is_one_line(places, tmp_path):
    for name, content in (("model.json", "[]"), ("report/metrics.json", "{")):
        folder = tmp_path / name[:5]
        (folder / "report").mkdir(parents=True)
        (folder / "model.json").write_text("{}")
        (folder / name).write_text(content)
        with pytest.raises(InputError, match=re.escape(f"{folder / name}, got: ")):
            write_page(tmp_path / "page.html", model=folder, cache=places["cache"])


def test_what_does_not_belong_together_is_said(places, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    content = json.loads(places["audit"].read_text()) | {"raw": "elsewhere"}
    (tmp_path / "data/audit.json").write_text(json.dumps(content))
    described = json.loads((places["model"] / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(described | {"cache": "0" * 16}))
    root = index.find_cache(places["cache"])
    here = dataclasses.replace(root, root="here")
    monkeypatch.setattr(index, "find_cache", lambda _: here)
    assert write_page("page.html", model=".", cache=places["cache"]) == 0
    said = Reader((tmp_path / "page.html").read_text(encoding="utf-8")).words()
    assert "data/audit.json is left out: it is of elsewhere, the cache of here." in said
    assert f"a cache of other rows ({'0' * 16}) than this one's ({root.fingerprint})" in said


def test_a_damaged_row_is_shown_as_a_fault(tmp_path):
    places = write_everything(tmp_path, TINY)
    found = index.find_cache(places["cache"])
    (entry,) = [entry for entry in found.clips if entry.clip == NASTY]
    shard = found.shard_facts[entry.shard]
    flip(found.folder / shard.file, shard.frames_offset + entry.row * TINY.frames_bytes)
    assert write_page(tmp_path / "page.html", **places) == 0
    said = Reader((tmp_path / "page.html").read_text(encoding="utf-8")).words()
    assert said.count(f"clip {NASTY}, as it was written, got other bytes") == 2


# Its parts


def test_the_sheet_shows_different_actors_spread_over_all(small_cache):
    chosen = rows.chosen_clips(small_cache, 2)
    assert list(chosen) == ["neutral", "happy", "angry", "surprised"]
    for emotion, entries in chosen.items():
        assert [entry.actor for entry in entries] == [1, 4]
        assert {entry.emotion for entry in entries} == {emotion}


def test_rows_on_the_page_are_those_of_the_cache(small_cache):
    entries = small_cache.clips[:3]
    tensors = rows.read_rows(small_cache, entries, variants=True)
    assert Counter(clip for clip, _ in tensors) == {entry.clip: 2 for entry in entries}
    for entry in entries:
        row = tensors[entry.clip, "clean"]
        assert row.mfcc[entry.label].mean() == pytest.approx(9, abs=0.5)
        assert rows.strip(row).shape == (32, 5 * 32, 3)


def test_worst_clips_are_those_whose_emotion_got_the_least():
    lines = [
        {"clip": name, "emotion": "sad", "fused": said, "p_fused_sad": str(part)}
        for name, said, part in (
            ("right", "sad", 0.01),
            ("nearly", "calm", 0.4),
            ("worst", "happy", 0.02),
            ("bad", "happy", 0.1),
        )
    ]
    assert [line["clip"] for line in worst.worst_lines(lines, 2)] == ["worst", "bad"]


def test_an_element_escapes_all_but_markup():
    inner = markup.element("b", "<i>", title='"&')
    assert inner == '<b title="&quot;&amp;">&lt;i&gt;</b>'
    assert markup.element("p", inner, hidden=True, id=None) == f"<p hidden>{inner}</p>"
    assert markup.element("img", src="a", alt="") == '<img src="a" alt="">'


def test_silence_is_grey_in_an_mfcc_image():
    mfcc = np.random.default_rng(0).normal(size=(40, 44, 1)).astype(np.float32)
    mfcc[:, 20:] = 0
    row = CachedRow(mfcc, np.zeros((1, 4, 4, 3), np.uint8))
    written = rows.mfcc_image(row, rows.scale([row]), "an image")
    (content,) = re.findall(r"base64,([^\"]+)", written)
    image = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (40, 44, 3)
    assert (image[:, 20:] == 128).all() and np.ptp(image[:, :20]) > 100
