"""What 'prune' may remove, and what it never touches."""

import argparse
import json
import os
import sys
import time

import h5py
import pytest
from test_verify import SMALL, write_small_cache

from pipeline import commands
from pipeline.cache import prune, seal
from pipeline.errors import InputError
from pipeline.spec import FeatureSpec, digest_of


@pytest.fixture
def caches(tmp_path):
    """A cache of another spec than the default one, and folders that are none of ours."""
    root = tmp_path / "cache"
    write_small_cache(root / SMALL.digest)
    (root / "photos").mkdir()
    (root / "photos" / "actor-01.h5").write_bytes(b"mine")
    (root / ("0" * 16)).mkdir()
    (root / ("0" * 16) / "index.json").write_text("{}")
    (root / ("1" * 16)).mkdir()
    return root


def describe_model(folder, digest):
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps({"spec_digest": digest}))


def run(root, *models, yes=False):
    return commands.run_prune(argparse.Namespace(cache=root, model=list(models), yes=yes))


def test_an_unnamed_cache_is_listed_with_what_makes_it_differ(caches, tmp_path):
    (found,) = prune.find_strays(caches, [tmp_path / "no model"])
    assert found.path == caches / SMALL.digest
    assert found.bytes == sum(path.stat().st_size for path in found.path.iterdir())
    assert found.age_seconds < 100
    assert found.meaning == (
        "frame_count 2, frame_size_px 16, variants ['pitch'], window_seconds 1.0"
    )


@pytest.mark.parametrize("index", [True, False], ids=("index", "shards"))
def test_a_cache_of_another_version_is_listed(caches, index):
    older = json.loads(SMALL.to_json())
    del older["mel_scale"]
    folder = (caches / SMALL.digest).rename(caches / digest_of(older))
    text = (folder / "index.json").read_text()
    (folder / "index.json").write_text(json.dumps(json.loads(text) | {"spec": older}))
    for path in folder.glob("*.h5"):
        with h5py.File(path, "r+") as file:
            file.attrs["spec"] = json.dumps(older)
        seal.write_seal(path, *json.loads(path.read_bytes()[: seal.SEAL_BYTES])["tensors"])
    if not index:
        (folder / "index.json").unlink()
    (found,) = prune.find_strays(caches, [])
    assert found.path == folder
    assert found.meaning.endswith("window_seconds 1.0, no mel_scale")


@pytest.mark.parametrize("place", [".", "fold-1", "crossval-loso-seed-0/fold-2"])
def test_a_model_names_its_cache(caches, tmp_path, place):
    describe_model(tmp_path / "model" / place, SMALL.digest)
    assert not prune.find_strays(caches, [tmp_path / "model"])
    assert prune.named_digests([]) == {FeatureSpec().digest, FeatureSpec.as_published().digest}


def test_a_model_that_cannot_say_which_cache_it_needs_stops_everything(caches, tmp_path):
    describe_model(tmp_path / "model", SMALL.digest)
    for text in ("{}", "[1]", "no json", "[" * 100_000):
        (tmp_path / "model" / "model.json").write_text(text)
        with pytest.raises(InputError, match="it might name any cache"):
            prune.find_strays(caches, [tmp_path / "model"])


def test_only_yes_removes_and_only_what_is_ours(caches, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    before = sorted(caches.rglob("*"))
    assert run(caches) == 0
    assert "nothing removed: say --yes" in capsys.readouterr().out
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: "n")
    assert run(caches) == 0 and sorted(caches.rglob("*")) == before
    monkeypatch.setattr("builtins.input", lambda _: "Yes")
    (caches / SMALL.digest / "notes.txt").write_text("mine")
    assert run(caches) == 0
    assert "but for files of others" in capsys.readouterr().out
    assert [path.name for path in (caches / SMALL.digest).iterdir()] == ["notes.txt"]
    assert run(caches, yes=True) == 0
    assert "nothing to remove" in capsys.readouterr().out
    assert (caches / "photos" / "actor-01.h5").read_bytes() == b"mine"


def test_a_whole_cache_goes_and_a_damaged_one_is_known_by_its_shards(caches):
    (caches / SMALL.digest / "index.json").write_text("damaged")
    assert run(caches, yes=True) == 0
    assert not (caches / SMALL.digest).exists() and (caches / ("0" * 16)).is_dir()


def test_partial_files_go_once_nobody_writes_them(caches, tmp_path):
    describe_model(tmp_path / "model", SMALL.digest)
    partial = caches / SMALL.digest / "actor-03.h5.partial"
    partial.write_bytes(b"half")
    assert not prune.find_strays(caches, [tmp_path / "model"])
    yesterday = time.time() - 86_400
    os.utime(partial, (yesterday, yesterday))
    assert run(caches, tmp_path / "model", yes=True) == 0
    assert not partial.exists() and len(list((caches / SMALL.digest).iterdir())) == 3


def test_a_link_to_a_cache_elsewhere_is_left_alone(caches, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / SMALL.digest).symlink_to(caches / SMALL.digest)
    assert not prune.find_strays(tmp_path / "other", [])
    with pytest.raises(InputError, match="expected a folder of caches"):
        prune.find_strays(tmp_path / "nowhere", [])
