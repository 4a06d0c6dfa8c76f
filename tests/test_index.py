"""The index: what of the shards counts, valid until another one replaces it."""

import dataclasses
import json
import shutil

import pytest
from conftest import TINY, hashes, make, shards_of, write_cache, write_take

from pipeline.backends import Workers
from pipeline.cache import build, facts, index, task
from pipeline.corpora import scan
from pipeline.errors import InputError
from pipeline.spec import EMOTIONS, FeatureSpec


@pytest.fixture
def noise(tmp_path):
    """A cache of 16 made-up clips of two actors."""
    return write_cache(tmp_path / TINY.digest)


def edit_index(folder, **changes):
    """Change an index and give it a right checksum, as somebody who knows how."""
    path = folder / index.INDEX_NAME
    content = json.loads(path.read_text()) | changes
    del content["checksum"]
    path.write_text(json.dumps(content | {"checksum": facts.canonical_sha256(content)}))


def test_the_index_matches_the_shards(tiny):
    found = index.find_cache(tiny)
    assert found.spec == TINY and found.actors == [1, 2, 3, 4] and found.rows == 32
    assert {shard.file: shard.sha256 for shard in found.shards} == hashes(found.folder)
    assert [entry.emotion for entry in found.clips[:4]] == [EMOTIONS[n] for n in (0, 2, 4, 7)]
    assert [entry.actor for entry in found.clips] == sorted([1, 2, 3, 4] * 4)


def test_round_trip(noise):
    whole = index.read_index(noise)
    changed = dataclasses.replace(
        whole, entries=whole.entries[1:], modified_ns={("videos/é.mp4", "ab"): 7}
    )
    assert index.write_index(changed)
    assert index.read_index(noise) == changed
    assert not index.write_index(changed), "the same index was written again"
    (first, _) = json.loads((noise / "index.json").read_text())["shards"]
    assert first["excluded"] == [whole.entries[0].clip]


def test_a_clip_that_is_left_out_changes_the_fingerprint(noise):
    whole = index.read_index(noise)
    gone = whole.clips[3].clip
    less = whole.without({gone})
    assert len(less.clips) == 15 and gone not in {entry.clip for entry in less.clips}
    assert less.fingerprint != whole.fingerprint
    assert whole.without(()).fingerprint == whole.fingerprint


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format_version": 2}, "expected cache format 3 .*got 2; remove .*run 'make features'"),
        ({"spec": {}}, "fields of this version's spec"),
        ({"emotions": ["calm"]}, "other emotions"),
        ({"shards": [{}]}, "expected an index of this version"),
        ({"shards": [{"file": "../x.h5", "manifest": ""}]}, "a shard named"),
        ({"shards": [{"file": "x\0.h5", "manifest": ""}]}, "expected"),
        ({"shards": [{"file": "x" * 300, "manifest": ""}]}, "expected"),
        ({"shards": [{"file": 5, "manifest": ""}]}, "expected an index of this version"),
        ({"modified_ns": {"a": 1}}, "expected an index of this version"),
        ({"modified_ns": [[[], "a", 1]]}, "expected an index of this version"),
    ],
)
def test_foreign_indexes_are_refused(noise, change, said):
    edit_index(noise, **change)
    with pytest.raises(InputError, match=said):
        index.read_index(noise)


def test_a_manifest_other_than_the_one_that_was_indexed_is_refused(noise):
    first = index.read_index(noise).shards[0]
    facts.write_manifest(noise, dataclasses.replace(first, seconds=9.0), TINY)
    with pytest.raises(InputError, match=f"another manifest of {first.file}"):
        index.read_index(noise)


def test_a_cache_of_format_2_is_refused_with_the_remedy(tmp_path):
    """As the version before left it: a shard an actor, and an index that names them."""
    folder = tmp_path / "0123456789abcdef"
    folder.mkdir()
    (folder / "actor-01.h5").write_bytes(b'{"format_version": 2}')
    (folder / "index.json").write_text(json.dumps({"format_version": 2, "sha256": "ab"}))
    with pytest.raises(InputError, match=r"cache format 3 .* got 2; remove .* 'make features'"):
        index.find_cache(tmp_path)


def test_which_cache_is_meant(noise, tmp_path):
    assert index.find_cache(noise).spec == index.find_cache(tmp_path).spec == TINY
    other = dataclasses.replace(TINY, variants=())
    write_cache(tmp_path / other.digest, other)
    with pytest.raises(InputError, match="expected one finished cache"):
        index.find_cache(tmp_path)
    write_cache(tmp_path / FeatureSpec().digest, FeatureSpec(), (1,), EMOTIONS[:1])
    assert index.find_cache(tmp_path).spec == FeatureSpec()
    with pytest.raises(InputError, match="got nothing; run 'make features' first"):
        index.find_cache(tmp_path / "nowhere")


# While a run is on its way


def test_the_old_index_is_valid_until_the_new_one_replaces_it(made, own_raw, monkeypatch):
    """A training may start at any moment of an increment, and gets the old cache, whole."""
    write_take(own_raw, "01-01-06-01-01-01-02")
    write_take(own_raw, "01-01-05-01-01-01-03", hertz=999)
    before, looks = index.find_cache(made), []
    make_shard, write_index = task.make_shard, build.write_index

    def look():
        found = index.find_cache(made)
        assert (found, found.fingerprint) == (before, before.fingerprint)
        looks.append(found)

    monkeypatch.setattr(task, "make_shard", lambda work: (look(), make_shard(work), look()))
    monkeypatch.setattr(build, "write_index", lambda found: (look(), write_index(found)))
    done = make(own_raw, made)
    assert done.extracted == 9 and len(looks) == 5
    assert index.find_cache(made) == done.index != before


def test_an_interrupted_increment_leaves_the_old_index_and_is_resumed(
    made, own_raw, monkeypatch, extracted
):
    """The old code removed the index first, and hashed everything when it went on."""
    for actor in (1, 2, 3):
        write_take(own_raw, f"01-01-06-01-01-01-0{actor}")
    before, note = index.find_cache(made), task.extract

    def interrupt(clip, work):
        if len(extracted) == 7:
            raise KeyboardInterrupt
        return note(clip, work)

    monkeypatch.setattr(task, "extract", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make(own_raw, made)
    assert index.find_cache(made) == before
    folder = made / TINY.digest
    assert [len(shards_of(folder, actor)) for actor in (1, 2, 3)] == [2, 1, 1]
    monkeypatch.setattr(task, "extract", note)
    extracted.clear()
    done = make(own_raw, made)
    assert len(extracted) == 10 and not [clip for clip in extracted if clip.endswith("-01")]
    assert done.index.rows == 38 and len(done.unnamed) == 3


# Joining


def test_runs_for_some_actors_each_are_joined(raw, tiny, tmp_path):
    catalogue = scan.scan(raw)
    for actors in ((1, 2), (3, 4)):
        chosen = [clip for clip in catalogue.clips if clip.actor in actors]
        part = dataclasses.replace(catalogue, clips=chosen)
        options = build.Options(progress=False, part=f"-{actors[0]}")
        done = build.build(part, tmp_path, TINY, Workers(1), options)
        assert done.index.actors == list(actors)
    folder = tmp_path / TINY.digest
    joined = build.join(folder)
    whole = index.find_cache(tiny)
    assert joined.fingerprint == whole.fingerprint and joined.root == str(raw)
    assert hashes(folder) == hashes(whole.folder)
    assert index.read_index(folder) == joined


def test_of_several_copies_of_a_clip_the_latest_is_joined(made, own_raw):
    write_take(own_raw, "01-01-05-01-01-01-03", hertz=999)
    done = make(own_raw, made)
    (made / TINY.digest / "index.json").unlink()
    joined = build.join(made / TINY.digest)
    assert joined.fingerprint == done.index.fingerprint
    assert len(joined.shards) == 4 and len(shards_of(made / TINY.digest, 3)) == 2


def test_a_clock_that_is_ahead_brings_back_no_older_copy(made, own_raw):
    """That of the machine that made the first shard."""
    folder = made / TINY.digest
    (name,) = shards_of(folder, 3)
    first = facts.read_manifest(facts.manifest_path(folder, name), TINY)
    ahead = dataclasses.replace(first, finished="2999-01-01T00:00:00.000000+00:00")
    facts.write_manifest(folder, ahead, TINY)
    write_take(own_raw, "01-01-05-01-01-01-03", hertz=999)
    done = make(own_raw, made)
    assert done.extracted == 4
    assert build.join(folder).fingerprint == done.index.fingerprint


def test_nothing_to_join_is_an_error(tmp_path, made):
    with pytest.raises(InputError, match="got none that states its spec"):
        build.join(tmp_path / TINY.digest)
    folder = made / TINY.digest
    for path in folder.glob("actor-*.json"):
        path.unlink()
    with pytest.raises(InputError, match="expected shards in"):
        build.join(folder)
    shutil.rmtree(folder)
