"""Readers of files that users edit, copy and damage: a documented error, or a sound result."""

import copy
import json
import os
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import TINY, tally, write_cache
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.cache import build, caches, facts, index, survey
from pipeline.cache import format as shard_format
from pipeline.corpora import audit, audit_report, ravdess, scan, sources
from pipeline.errors import InputError
from pipeline.spec import EMOTIONS, FeatureSpec
from train import artefact
from train.data import reader as train_reader
from train.data import rows as train_rows
from train.studies.protocol import Split

EXAMPLES, MANY_EXAMPLES = 60, 5000

# Strategies

NUMBERS = st.integers() | st.floats() | st.sampled_from([-1, 0, 1, 2**31, 2**63, 10**30])
WORDS = st.text(max_size=8) | st.sampled_from(["../x.h5", "/etc/passwd", "actor-01.h5", "\x00"])
LEAVES = st.none() | st.booleans() | NUMBERS | WORDS
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
BYTE_EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 4), st.binary(max_size=4)), min_size=1, max_size=4
)
JSON_EDITS = st.lists(
    st.tuples(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.booleans(), JSON),
    min_size=1,
    max_size=3,
)


def edit_bytes(text, edits):
    """Replace some bytes at places given as parts of the length."""
    for part, length, new in edits:
        start = int(part * len(text))
        text = text[:start] + new + text[start + length :]
    return text


def edit_json(content, edits):
    """Replace or remove what lies at some paths of parsed JSON."""
    content = copy.deepcopy(content)
    for steps, remove, value in edits:
        place = content
        for step in steps:
            keys = list(place) if isinstance(place, dict) else range(len(place))
            if not keys:
                break
            key = keys[step % len(keys)]
            if isinstance(place[key], (dict, list)) and step != steps[-1]:
                place = place[key]
                continue
            if remove:
                del place[key]
            else:
                place[key] = copy.deepcopy(value)
            break
    return content


# Properties


class IndexFile:
    """``index.json`` of a small cache: what comes out is the index that was written, or nothing."""

    def __init__(self, folder):
        self.folder = write_cache(folder / TINY.digest)
        self.path = self.folder / "index.json"
        self.text = self.path.read_bytes()
        self.whole = index.read_index(self.folder)

    def bytes(self, edits):
        self.path.write_bytes(edit_bytes(self.text, edits))
        try:
            assert index.read_index(self.folder) == self.whole
        except InputError as error:
            assert "\n" not in str(error)

    def any_bytes(self, text):
        self.path.write_bytes(text)
        with pytest.raises(InputError):
            index.read_index(self.folder)

    def structure(self, edits):
        """Edited and signed again, as by somebody who knows how."""
        self.path.write_text(signed(edit_json(json.loads(self.text), edits)))
        known = survey.known_shards(self.folder, TINY)
        assert len(known.shards) == 2 and known.modified_ns.get(("a", "b")) is None
        caches.list_caches(self.folder.parent, [])
        try:
            build.join(self.folder)
        except InputError as error:
            assert "\n" not in str(error)
        self.path.write_text(signed(edit_json(json.loads(self.text), edits)))
        try:
            found = index.read_index(self.folder)
            rows = (
                train_rows.select_rows(found, found.actors, variants=True) if found.actors else ()
            )
            assert all(path.parent == self.folder for path in getattr(rows, "shards", ()))
            if len(rows):
                train_reader.RowReader(rows).read(np.arange(len(rows)))
        except InputError as error:
            assert "\n" not in str(error)


def signed(content):
    """JSON with the checksum that it should have."""
    content.pop("checksum", None)
    return json.dumps(content | {"checksum": facts.canonical_sha256(content)})


class Manifest:
    """The manifest of a shard: what comes out is what was written, or nothing."""

    def __init__(self, folder):
        self.folder = write_cache(folder / TINY.digest, actors=(1,), emotions=EMOTIONS[:3])
        self.path = next(self.folder.glob("actor-*.json"))
        self.text = self.path.read_bytes()
        self.whole = facts.read_manifest(self.path, TINY)

    def bytes(self, edits):
        self.path.write_bytes(edit_bytes(self.text, edits))
        try:
            assert facts.read_manifest(self.path, TINY) == self.whole
        except InputError as error:
            assert "\n" not in str(error)

    def any_bytes(self, text):
        self.path.write_bytes(text)
        with pytest.raises(InputError):
            facts.read_manifest(self.path, TINY)
        assert not survey.known_shards(self.folder, TINY).shards

    def structure(self, edits):
        """Edited and signed again: no row is served that is not the one that was written."""
        self.path.write_text(signed(edit_json(json.loads(self.text), edits)))
        try:
            found = facts.read_manifest(self.path, TINY)
        except InputError as error:
            assert "\n" not in str(error)
            return
        assert found.file == self.whole.file
        for fault in shard_format.check_shard(self.folder, found, TINY):
            assert fault.file == found.file


class ModelFile:
    """``model.json`` beside a model that loads."""

    def __init__(self, folder):
        inputs = keras.Input((1,))
        network = keras.Model(inputs, keras.layers.Dense(1)(inputs))
        self.folder = folder / "model"
        self.folder.mkdir()
        split = Split((1,), (2,), (3,))
        artefact.save(artefact.Artefact(network, FeatureSpec(), split, {"seed": 0}), self.folder)
        self.path = self.folder / "model.json"
        self.text = self.path.read_bytes()

    def read(self):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(keras.models, "load_model", lambda *_, **__: "model")
            try:
                loaded = artefact.load(self.folder)
            except InputError as error:
                assert "\n" not in str(error)
                return
        assert loaded.spec.revision == FeatureSpec().revision
        assert isinstance(loaded.settings, dict) and isinstance(loaded.metrics, dict)
        assert all(isinstance(text, str) for text in loaded.seen)
        assert all(type(actor) is int for actor in loaded.split.train + loaded.split.test)

    def bytes(self, edits):
        self.path.write_bytes(edit_bytes(self.text, edits))
        self.read()

    def any_bytes(self, text):
        self.path.write_bytes(text)
        with pytest.raises(InputError):
            artefact.load(self.folder)

    def structure(self, edits):
        self.path.write_text(json.dumps(edit_json(json.loads(self.text), edits)))
        self.read()


PATHS = st.lists(
    st.sampled_from(["a.mp4", "in", "b.mp4", "..", ".", "", "out", "secret.mp4", "\x00", "é" * 300])
    | st.text(max_size=5),
    min_size=1,
    max_size=5,
).map("/".join)
TRICKS = st.sampled_from(
    ["a.mp4", "in/b.mp4", "out/secret.mp4", "out/../secret.mp4", "/etc/hostname"]
)
CELLS = st.tuples(
    PATHS | TRICKS | st.just(""),
    PATHS | TRICKS | st.just(""),
    st.sampled_from([*EMOTIONS, "HAPPY ", "joy", "bored"]) | st.text(max_size=5),
    st.integers(-1, 30).map(str) | st.sampled_from(["٣", "1e3", "01", "9" * 5000, "Anna", ""]),
)


class Table:
    """``clips.csv`` in a folder with files, a folder, and a link to a folder outside."""

    def __init__(self, folder):
        self.root = folder / "raw"
        (self.root / "in").mkdir(parents=True)
        (folder / "elsewhere").mkdir()
        for name in ("raw/a.mp4", "raw/in/b.mp4", "elsewhere/secret.mp4", "secret.mp4"):
            (folder / name).touch()
        (self.root / "out").symlink_to(folder / "elsewhere")
        self.path = self.root / "clips.csv"
        self.labels = folder / "map.csv"

    def read(self):
        try:
            found = scan.scan(self.root, labels=self.labels if self.labels.exists() else None)
        except InputError as error:
            assert "\n" not in str(error)
            return
        assert len({clip.id for clip in found.clips}) == len(found.clips)
        for clip in found.clips:
            assert clip.emotion in EMOTIONS and clip.actor >= 1
            assert not found.actor_names or clip.actor in found.actor_names
            for path in clip.sources:
                assert path.is_file() and ".." not in path.relative_to(self.root).parts

    def cells(self, rows):
        quoted = (",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows)
        text = "\n".join(["video,audio,emotion,actor", *quoted])
        self.path.write_bytes(text.encode("utf-8", "surrogatepass"))
        self.read()

    def any_bytes(self, text):
        self.path.write_bytes(b"video,audio,emotion,actor\n" + text)
        self.read()
        self.path.write_bytes(text)
        self.read()

    def any_labels(self, text):
        self.path.write_text("video,emotion,actor\na.mp4,bored,1\n")
        self.labels.write_bytes(text)
        self.read()


ARABIC_ONE, FULL_WIDTH_ONE = "\u0660\u0661", "\uff10\uff11"
DIGITS = st.sampled_from(
    ["01", "02", "03", "08", "24", "00", "99", "1", ARABIC_ONE, FULL_WIDTH_ONE]
)
GOOD = st.sampled_from(["01", "02"])
STEMS = (
    st.tuples(DIGITS, *[GOOD] * 6).map("-".join)
    | st.lists(DIGITS, min_size=5, max_size=8).map("-".join)
    | st.text(max_size=22)
    | st.binary(max_size=22).map(os.fsdecode)
)


class Names:
    """File names, parsed and scanned."""

    def __init__(self, folder):
        self.root = folder

    def parse(self, stem):
        try:
            name = ravdess.parse_name(stem)
        except ValueError:
            return
        assert "-".join(name) == stem and stem.isascii()
        assert [len(value) for value in name] == [2] * 7

    def scan(self, names):
        for path in self.root.iterdir():
            path.unlink()
        for stem, suffix in names:
            name = f"{stem}{suffix}".replace("/", "").replace("\x00", "")
            try:
                (self.root / name).write_bytes(b"")
            except (OSError, UnicodeEncodeError):
                continue  # not a name this file system takes
        try:
            found = scan.scan(self.root)
        except InputError as error:
            assert "\n" not in str(error) and str(error).encode()
            return
        assert all(clip.emotion in EMOTIONS and 1 <= clip.actor <= 24 for clip in found.clips)
        for path, reason in found.unreadable + found.duplicates:
            assert sources.printable(path).isprintable() and reason.isprintable()
        report = audit_report.report_json(found, [], audit.judge(found, []))
        assert json.loads(report)["clips"] == 0


PROPERTIES = {
    "index bytes": (IndexFile, IndexFile.bytes, BYTE_EDITS),
    "index any bytes": (IndexFile, IndexFile.any_bytes, st.binary(max_size=60)),
    "index structure": (IndexFile, IndexFile.structure, JSON_EDITS),
    "manifest bytes": (Manifest, Manifest.bytes, BYTE_EDITS),
    "manifest any bytes": (Manifest, Manifest.any_bytes, st.binary(max_size=60)),
    "manifest structure": (Manifest, Manifest.structure, JSON_EDITS),
    "model bytes": (ModelFile, ModelFile.bytes, BYTE_EDITS),
    "model any bytes": (ModelFile, ModelFile.any_bytes, st.binary(max_size=60)),
    "model structure": (ModelFile, ModelFile.structure, JSON_EDITS),
    "clips.csv cells": (Table, Table.cells, st.lists(CELLS, min_size=1, max_size=3)),
    "clips.csv any bytes": (Table, Table.any_bytes, st.binary(max_size=80)),
    "labels any bytes": (
        Table,
        Table.any_labels,
        st.binary(max_size=40) | st.just(b"Bored,calm") | st.text(max_size=40).map(str.encode),
    ),
    "name": (Names, Names.parse, STEMS),
    "names": (
        Names,
        Names.scan,
        st.lists(st.tuples(STEMS, st.sampled_from([".mp4", ".wav", ".MP4", ""])), max_size=5),
    ),
}


def search(name, folder, examples):
    maker, check, strategy = PROPERTIES[name]
    subject = maker(folder)
    chosen = settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    chosen(given(strategy)(lambda value: check(subject, value)))()


@pytest.mark.torture
@pytest.mark.parametrize(
    "examples", [EXAMPLES, pytest.param(MANY_EXAMPLES, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", PROPERTIES)
def test_no_input_breaks_a_reader(name, examples, tmp_path):
    search(name, tmp_path, examples)
    tally("fuzz: names, clips.csv, manifests, index.json, model.json", examples, examples)


def test_deep_nesting_is_refused(tmp_path):
    text = b'{"format_version": ' + b"[" * 200_000
    (tmp_path / "shard").mkdir()
    for reader in (IndexFile(tmp_path), Manifest(tmp_path / "shard"), ModelFile(tmp_path)):
        reader.any_bytes(text)


# Models from elsewhere


def test_a_model_that_brings_code_is_refused_with_one_line(tmp_path):
    """A Lambda layer holds Python bytecode; opening it must not run it."""
    model = ModelFile(tmp_path)
    marker = tmp_path / "ran"
    inputs = keras.Input((1,))
    outputs = keras.layers.Lambda(lambda x, place=str(marker): (Path(place).touch(), x)[1])(inputs)
    keras.Model(inputs, outputs).save(model.folder / "model.keras")
    marker.unlink(missing_ok=True)
    with pytest.raises(InputError) as caught:
        artefact.load(model.folder)
    assert "Lambda" in str(caught.value) and "\n" not in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "zip of nothing", "zip of lists"])
def test_a_damaged_model_file_is_refused_with_one_line(tmp_path, kind):
    model = ModelFile(tmp_path)
    path = model.folder / "model.keras"
    text = path.read_bytes()
    if kind.startswith("zip"):
        with zipfile.ZipFile(path, "w") as archive:
            for name in ("config.json", "metadata.json") if kind == "zip of lists" else ():
                archive.writestr(name, "[]")
    else:
        path.write_bytes({"empty": b"", "text": b"hello", "cut": text[: len(text) // 2]}[kind])
    with pytest.raises(InputError) as caught:
        artefact.load(model.folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["long name", "folder", "link out"])
def test_paths_of_clips_csv_stay_inside(tmp_path, kind):
    files = Table(tmp_path)
    video = {"long name": "x" * 300 + ".mp4", "folder": "in", "link out": "out/../secret.mp4"}[kind]
    files.path.write_text(f"video,audio,emotion,actor\n{video},,happy,1\n")
    with pytest.raises(InputError, match="expected a file inside"):
        scan.scan(files.root)
    assert os.path.exists(Path(files.root, "out/../secret.mp4"))
