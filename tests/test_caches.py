"""What 'prune' lists, what it may remove, and what it never touches."""

import dataclasses
import json
import os
import time

import pytest
from conftest import TINY, shards_of, write_cache

from pipeline import __main__ as command_line
from pipeline import commands
from pipeline.cache import caches, facts, lock
from pipeline.errors import InputError
from pipeline.spec import digest_of

OTHER = dataclasses.replace(TINY, variants=())


@pytest.fixture
def root(tmp_path):
    """Two caches, and folders that are none of ours."""
    root = tmp_path / "data" / "cache"
    for spec in (TINY, OTHER):
        write_cache(root / spec.digest, spec, (1, 2), ("happy",))
    (root / "photos").mkdir()
    (root / "photos" / "actor-01.h5").write_bytes(b"mine")
    (root / ("0" * 16)).mkdir()
    (root / ("0" * 16) / "index.json").write_text("{}")
    (root / ("1" * 16)).mkdir()
    return root


def describe_model(folder, digest):
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps({"spec_digest": digest}))


def prune(root, *words):
    models = ("--models", str(root.parent))
    arguments = command_line.parser().parse_args(
        ["prune", "--cache", str(root), *map(str, words), *models]
    )
    return arguments.run(arguments)


def listed(root, *models):
    return {cache.path.name: cache for cache in caches.list_caches(root, models)}


def test_a_cache_is_listed_with_size_age_and_what_makes_it_differ(root):
    found = listed(root)
    assert set(found) == {TINY.digest, OTHER.digest}
    tiny = found[TINY.digest]
    assert tiny.bytes == sum(path.stat().st_size for path in tiny.path.iterdir())
    assert tiny.age_seconds < 100 and tiny.models == ()
    assert tiny.meaning == (
        "frame_count 2, frame_size_px 16, variants ['pitch'], window_seconds 1.0"
    )


def test_age_is_that_of_the_last_change(root):
    yesterday = time.time() - 86_400
    for path in (root / TINY.digest).iterdir():
        os.utime(path, (yesterday, yesterday))
    assert 86_000 < listed(root)[TINY.digest].age_seconds < 87_000


@pytest.mark.parametrize("index", [True, False], ids=("index", "manifests"))
def test_a_cache_of_another_version_is_listed(root, index):
    older = json.loads(TINY.to_json())
    del older["mel_scale"]
    folder = (root / TINY.digest).rename(root / digest_of(older))
    for path in folder.glob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"spec": older}))
    if not index:
        (folder / "index.json").unlink()
    assert listed(root)[folder.name].meaning.endswith("window_seconds 1.0, no mel_scale")


@pytest.mark.parametrize("place", ["model", "model-2/fold-1", "runs/loso-seed-0/fold-2"])
def test_models_anywhere_below_data_name_their_cache(root, place):
    describe_model(root.parent / place, TINY.digest)
    found = listed(root, root.parent)
    assert found[TINY.digest].models == (root.parent / place / "model.json",)
    assert found[OTHER.digest].models == ()


def test_models_behind_links_name_their_cache(root, tmp_path):
    """Such as on another disk; links that lead in circles end, and each model counts once."""
    describe_model(tmp_path / "disk" / "model", TINY.digest)
    for link in (root.parent / "models", root.parent / "again", tmp_path / "disk" / "circle"):
        link.symlink_to(tmp_path / "disk")
    found = listed(root, root.parent, tmp_path / "disk")[TINY.digest].models
    assert found == (root.parent / "again" / "model" / "model.json",)
    with pytest.raises(InputError, match="was trained on"):
        prune(root, TINY.digest)


@pytest.mark.parametrize("text", ["{}", "[1]", "no json", "[" * 100_000])
def test_a_model_that_cannot_be_read_names_nothing(root, text):
    describe_model(root.parent / "model", TINY.digest)
    (root.parent / "model" / "model.json").write_text(text)
    assert not any(cache.models for cache in listed(root, root.parent).values())


def test_without_a_name_nothing_is_removed(root, capsys):
    """A cache of a moment ago, which no model needs yet, among them."""
    before = sorted(root.rglob("*"))
    assert prune(root) == 0
    assert sorted(root.rglob("*")) == before
    said = capsys.readouterr().out
    assert "nothing removed: name what is to go" in said
    room = commands.size(listed(root)[TINY.digest].bytes)
    assert f"{root / TINY.digest}: {room}, 0.0 days old, frame_count 2" in said
    assert said.count("needed by no model") == 2


def test_only_what_is_named_goes_and_only_what_is_ours(root, capsys):
    (root / TINY.digest / "notes.txt").write_text("mine")
    (root / TINY.digest / "actor-03-0123456789.h5.host-1-0123abcd.partial").touch()
    assert prune(root, TINY.digest) == 0
    assert "but for files of others in it" in capsys.readouterr().out
    assert [path.name for path in (root / TINY.digest).iterdir()] == ["notes.txt"]
    assert len(listed(root)) == 1 and (root / OTHER.digest / "index.json").exists()
    left = root / OTHER.digest / "progress.host-0-1-0123abcd_x4h5gk3.partial"
    left.mkdir()
    (left / "actor-01-0123456789.h5").touch()
    assert prune(root, OTHER.digest) == 0
    assert not (root / OTHER.digest).exists()
    assert (root / "photos" / "actor-01.h5").read_bytes() == b"mine"
    assert (root / ("0" * 16) / "index.json").exists() and (root / ("1" * 16)).exists()


@pytest.mark.parametrize("name", ["photos", "0" * 16, "1" * 16, "nonsense", "../data"])
def test_a_name_that_is_no_cache_removes_nothing(root, name):
    before = sorted(root.rglob("*"))
    with pytest.raises(InputError, match=f"got .*; choose out of .*{TINY.digest}"):
        prune(root, TINY.digest, name)
    assert sorted(root.rglob("*")) == before


def test_a_cache_that_a_model_needs_stays_unless_somebody_insists(root):
    describe_model(root.parent / "model-2", TINY.digest)
    with pytest.raises(InputError, match=r"model-2/model\.json was trained on.*--despite-models"):
        prune(root, TINY.digest)
    assert TINY.digest in listed(root)
    assert prune(root, TINY.digest, "--despite-models") == 0
    assert TINY.digest not in listed(root)


@pytest.mark.parametrize("part", ["", "-1-12"])
def test_a_cache_that_is_being_filled_stays(root, part):
    """By a run for some actors, too."""
    with (
        lock.held(root / TINY.digest, name=part),
        pytest.raises(InputError, match="expected no other run"),
    ):
        prune(root, TINY.digest)
    assert len(shards_of(root / TINY.digest, 1)) == 1


def test_a_damaged_cache_is_known_by_its_manifests(root):
    folder = root / TINY.digest
    (folder / "index.json").write_text("damaged")
    facts.manifest_path(folder, shards_of(folder, 1)[0]).write_text("damaged")
    assert prune(root, TINY.digest) == 0 and not folder.exists()


def test_an_interrupted_removal_leaves_no_finished_cache(root, monkeypatch):
    removed = []

    def stop(path, **_):
        removed.append(path.name)
        raise KeyboardInterrupt

    monkeypatch.setattr(caches.Path, "unlink", stop)
    with pytest.raises(KeyboardInterrupt):
        caches.remove(listed(root)[TINY.digest])
    assert removed[0] == "index.json"


def test_a_link_to_a_cache_elsewhere_is_left_alone(root, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / TINY.digest).symlink_to(root / TINY.digest)
    assert not listed(tmp_path / "other")
    with pytest.raises(InputError, match="expected a folder of caches"):
        listed(tmp_path / "nowhere")
