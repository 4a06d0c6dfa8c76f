"""Damage: whatever byte of a cache changes, it is caught, or nothing anyone reads has changed."""

import dataclasses
import json
import random
import shutil

import h5py
import numpy as np
import pytest
from conftest import TINY, flip, hashes, make, shards_of, tally, write_cache, write_take

from pipeline import __main__ as command_line
from pipeline.backends import Workers
from pipeline.cache import build, facts, index, verify
from pipeline.corpora import scan
from pipeline.errors import InputError
from pipeline.spec import EMOTIONS
from train.data import reader
from train.data import rows as train_rows


def check(folder):
    return verify.check_cache(folder, Workers(1), progress=False)


def noise_cache(tmp_path):
    """Two shards of made-up rows, 150 kB each."""
    return write_cache(tmp_path / TINY.digest)


def what_training_reads(folder):
    """Every row that training would read, with its label, by clip and variant."""
    found = index.find_cache(folder)
    rows = train_rows.select_rows(found, found.actors, variants=True)
    batch = reader.RowReader(rows).read(np.arange(len(rows)))
    return {
        (rows.clip[n], rows.variant[n]): (
            batch["mfcc"][n].tobytes(),
            batch["frames"][n].tobytes(),
            rows.label[n],
            rows.actor[n],
        )
        for n in range(len(rows))
    }


# Flipped bytes


def places_of(path, shard):
    """Bytes of a shard by what they hold."""
    text = path.read_bytes()
    end = shard.frames_offset + shard.rows * TINY.frames_bytes
    with h5py.File(path) as file:
        places = {
            name: range(start := file[name].id.get_offset(), start + file[name].nbytes)
            for name in ("mfcc", "frames", "label")
        }

    def where(word):
        return [n for start in found_at(text, word) for n in range(start, start + len(word))]

    return places | {
        "strings": where(shard.clips[1].clip.encode()) + where(b"pitch"),
        "attributes": where(TINY.digest.encode()) + where(b"mfcc_columns"),
        "structure": [*range(shard.mfcc_offset), *range(end, shard.bytes)],
    }


def found_at(text, word):
    start = text.find(word)
    while start >= 0:
        yield start
        start = text.find(word, start + 1)


def try_flips(tmp_path, per_kind):
    """Flip bytes one at a time; return how many of each kind were tried."""
    folder = noise_cache(tmp_path)
    whole, expected = index.read_index(folder), what_training_reads(folder)
    shard = whole.shards[0]
    path, manifest = folder / shard.file, facts.manifest_path(folder, shard.file)
    targets = {kind: (path, places) for kind, places in places_of(path, shard).items()}
    for kind, file in (("manifest", manifest), ("index", folder / "index.json")):
        targets[kind] = (file, range(file.stat().st_size))
    chance, tried = random.Random(4), {}
    for kind, (file, places) in targets.items():
        for place in chance.choices(places, k=per_kind):
            mask = 1 << chance.randrange(8)
            flip(file, place, mask)
            where = f"{kind}: byte {place} ^ {mask}"
            faults = check(folder).faults
            if file == path:
                assert {fault.file for fault in faults} == {shard.file}, where
                assert (faults[0].row is not None) == (kind in ("mfcc", "frames")), where
            else:
                assert faults or index.read_index(folder) == whole, where
            try:
                assert what_training_reads(folder) == expected, where
            except InputError as error:
                assert file.stem in str(error) and "\n" not in str(error), where
            flip(file, place, mask)
        tried[kind] = per_kind
    assert not check(folder).faults
    return tried


@pytest.mark.torture
@pytest.mark.parametrize("per_kind", [20, pytest.param(650, marks=pytest.mark.slow)])
def test_a_flipped_byte_is_caught_or_changes_nothing(tmp_path, per_kind):
    tried = try_flips(tmp_path, per_kind)
    assert len(tried) == 8
    tally("flipped bytes: caught, or nothing changed", sum(tried.values()), 8 * per_kind)


def test_a_shard_of_another_actor_under_the_name_is_caught(tmp_path):
    """Sound in itself, but not what the manifest says."""
    folder = noise_cache(tmp_path)
    one, two = index.read_index(folder).shards
    shutil.copy(folder / two.file, folder / one.file)
    assert [fault.row for fault in check(folder).faults] == list(range(16))
    with pytest.raises(InputError, match=rf"row 0 of .*{one.file}, clip {one.clips[0].clip}"):
        what_training_reads(folder)
    shutil.copy(facts.manifest_path(folder, two.file), facts.manifest_path(folder, one.file))
    said = str(check(folder).faults[0])
    assert said.startswith("index.json: ") and f"the manifest of '{two.file}'" in said


def test_a_missing_shard_stops_training_and_is_named(tmp_path):
    folder = noise_cache(tmp_path)
    one = index.read_index(folder).shards[0]
    (folder / one.file).unlink()
    (fault,) = check(folder).faults
    assert (fault.file, len(fault.clips)) == (one.file, 8)
    assert str(fault) == f"{one.file}, 8 clips: cannot be read: No such file or directory"
    with pytest.raises(InputError, match=one.file):
        what_training_reads(folder)


def test_shards_that_the_index_does_not_name_are_read_too(tmp_path):
    folder = noise_cache(tmp_path)
    found = index.read_index(folder)
    one, two = found.shards
    index.write_index(index.index_of(two.clips, found.shards, {}, folder, TINY, "raw"))
    flip(folder / one.file, 5000)
    (fault,) = check(folder).faults
    assert fault.file == one.file


# Repair


def flip_row(folder, actor, row):
    found = index.read_index(folder)
    shard = next(shard for shard in found.shards if shard.actor == actor)
    flip(folder / shard.file, shard.frames_offset + row * found.spec.frames_bytes + 321, 1)
    return shard


def repaired(folder, raw):
    report = check(folder)
    verify.repair(report, scan.scan(raw), Workers(1), build.Options(progress=False))
    return report


def takes(*actors):
    return [f"01-0{emotion}-01-01-01-0{actor}" for actor in actors for emotion in (1, 3, 5, 8)]


@pytest.fixture
def folder(made):
    return made / TINY.digest


def test_repair_makes_exactly_the_damaged_shards_again(folder, raw, extracted):
    before = hashes(folder), index.read_index(folder).fingerprint
    two = flip_row(folder, 2, 5)
    (three,) = shards_of(folder, 3)
    with h5py.File(folder / three) as file:
        label = file["label"].id.get_offset()
    flip(folder / three, label)
    (four,) = shards_of(folder, 4)
    (folder / four).unlink()
    report = repaired(folder, raw)
    assert [(fault.file, fault.row, len(fault.clips)) for fault in report.faults] == [
        (two.file, 5, 1),
        (three, None, 0),
        (four, None, 4),
    ]
    assert str(report.faults[0]) == (
        f"{two.file} row 5, 01-05-01-01-01-02: its pitch row is not what was written"
    )
    assert extracted == takes(2, 3, 4)
    assert (hashes(folder), index.read_index(folder).fingerprint) == before
    assert not check(folder).faults


def test_a_damaged_index_is_made_again_from_the_shards(folder, raw, extracted):
    before = hashes(folder), index.read_index(folder).fingerprint
    one = flip_row(folder, 1, 6)
    flip(folder / "index.json", 300, 1)
    (folder / "actor-my.notes.json").write_text("no shard's")
    report = repaired(folder, raw)
    assert [(fault.file, fault.row) for fault in report.faults] == [
        ("index.json", None),
        ("actor-my.notes.json", None),
        (one.file, 6),
    ]
    assert extracted == takes(1)
    assert (hashes(folder), index.read_index(folder).fingerprint) == before


def test_a_damaged_manifest_is_made_again(folder, raw, extracted):
    before = hashes(folder), index.read_index(folder).fingerprint
    (name,) = shards_of(folder, 2)
    flip(facts.manifest_path(folder, name), 700, 1)
    report = repaired(folder, raw)
    assert {fault.file for fault in report.faults} == {"index.json", name.replace(".h5", ".json")}
    assert extracted == takes(2)
    assert (hashes(folder), index.read_index(folder).fingerprint) == before
    assert not check(folder).faults


def test_repair_keeps_to_the_clips_the_cache_held(folder, own_raw, extracted):
    before = hashes(folder)
    write_take(own_raw, "01-01-06-01-01-01-02")
    flip_row(folder, 2, 0)
    repaired(folder, own_raw)
    assert extracted == takes(2) and hashes(folder) == before
    flip_row(folder, 2, 0)
    for path in own_raw.rglob("*-08-01-01-01-03.*"):
        path.unlink()
    with pytest.raises(InputError, match="got none of 1, such as 01-08-01-01-01-03"):
        repaired(folder, own_raw)


def damage_manifest(folder, actor):
    (name,) = shards_of(folder, actor)
    flip(facts.manifest_path(folder, name), 700, 1)


@pytest.mark.parametrize("damaged", [(2,), (1, 2, 3, 4)], ids=["one manifest", "all manifests"])
def test_a_raw_folder_of_other_clips_repairs_no_manifest(folder, tmp_path, damaged):
    """Not even where the names of the shards are all that is left."""
    write_take(tmp_path / "other", "01-01-02-02-02-02-09")
    for actor in damaged:
        damage_manifest(folder, actor)
    before = hashes(folder, "*")
    with pytest.raises(InputError, match=r"whose manifest is damaged.*name the raw folder"):
        repaired(folder, tmp_path / "other")
    assert hashes(folder, "*") == before


@pytest.mark.parametrize("index_too", [False, True])
def test_repair_of_a_manifest_adds_no_clip_the_cache_never_held(
    tmp_path, raw, extracted, index_too
):
    """Such as those of the actors that were not asked for."""
    found = scan.scan(raw)
    clips = [clip for clip in found.clips if clip.actor in (1, 2)]
    chosen = dataclasses.replace(found, clips=clips)
    build.build(chosen, tmp_path, TINY, Workers(1), build.Options(progress=False))
    folder, before = tmp_path / TINY.digest, index.find_cache(tmp_path).fingerprint
    damage_manifest(folder, 1)
    if index_too:
        flip(folder / "index.json", 300, 1)
    extracted.clear()
    repaired(folder, raw)
    assert extracted == takes(1) and index.find_cache(tmp_path).fingerprint == before
    assert not check(folder).faults


@pytest.mark.parametrize("change", ["another clip", "a clip gone", "another size"])
def test_without_an_index_the_manifests_say_which_raw_folder_is_meant(folder, own_raw, change):
    flip(folder / "index.json", 300, 1)
    damage_manifest(folder, 1)
    path = next(own_raw.rglob("03-01-05-01-01-01-02.wav"))
    if change == "another size":
        path.write_bytes(path.read_bytes() + b"more")
    elif change == "a clip gone":
        for path in own_raw.rglob("*-05-01-01-01-02.*"):
            path.unlink()
    else:
        write_take(own_raw, "01-01-06-01-01-01-01")
    before = hashes(folder, "*")
    expected = {
        "another clip": "expected the clips of actor-01-",
        "a clip gone": "got none of 1, such as 01-05-01-01-01-02",
        "another size": "got another audios/Actor_02/03-01-05-01-01-01-02.wav",
    }
    with pytest.raises(InputError, match=expected[change]):
        repaired(folder, own_raw)
    assert hashes(folder, "*") == before


def test_a_cache_that_does_not_say_what_it_means_is_not_repaired(folder, raw):
    for path in folder.glob("*.json"):
        path.write_text("{}")
    report = check(folder)
    assert report.spec is None and report.rows == 0
    with pytest.raises(InputError, match="remove the folder and run 'make features' again"):
        repaired(folder, raw)


def test_damage_never_gets_into_a_new_shard(made, own_raw, folder, extracted):
    """Whatever is made is made from raw files; a damaged neighbour is not copied."""
    write_take(own_raw, "01-01-06-01-01-01-02")
    flip_row(folder, 2, 3)
    make(own_raw, made)
    assert sorted(extracted) == sorted([*takes(2), "01-06-01-01-01-02"])
    assert not check(folder).files & set(index.read_index(folder).shard_facts)


# Commands


def run(*words):
    arguments = command_line.parser().parse_args([*map(str, words)])
    return arguments.run(arguments)


def test_the_command_says_what_is_damaged_and_mends_it(made, folder, raw, capsys):
    words = ("verify", "--cache", made, "--raw", raw, "--jobs", 1)
    assert run(*words) == 0
    assert "32 rows" in (said := capsys.readouterr().out) and "no faults" in said
    one = flip_row(folder, 1, 3)
    assert run(*words) == 1
    assert f"{one.file} row 3, 01-03-01-01-01-01" in capsys.readouterr().err
    assert run(*words, "--repair") == 0
    said = capsys.readouterr().out
    assert f"repaired {one.file}; 4 clips extracted again; no faults left" in said
    assert not check(folder).faults


def test_a_cache_that_cannot_be_repaired_keeps_no_other_from_it(made, folder, own_raw, capsys):
    """That of another raw folder, whose digest sorts before it."""
    other = dataclasses.replace(TINY, frame_count=1)
    assert other.digest < TINY.digest
    write_cache(made / other.digest, other)
    one, two = flip_row(folder, 1, 3), flip_row(made / other.digest, 1, 3)
    assert run("verify", "--cache", made, "--raw", own_raw, "--jobs", 1, "--repair") == 1
    said = capsys.readouterr()
    assert f"not repaired: expected every clip of {made / other.digest}" in said.err
    assert f"repaired {one.file}; 4 clips" in said.out
    assert not check(folder).faults and check(made / other.digest).files == {two.file}


def test_an_unreachable_raw_folder_repairs_nothing(made, folder, own_raw, capsys):
    (own_raw / "audios" / "more").symlink_to(own_raw / "gone")
    flip_row(folder, 1, 3)
    before = hashes(folder, "*")
    assert run("verify", "--cache", made, "--raw", own_raw, "--jobs", 1, "--repair") == 1
    assert "unreachable: " in capsys.readouterr().err and hashes(folder, "*") == before


def test_which_caches_are_verified(made, tmp_path):
    assert verify.caches(made) == verify.caches(made / TINY.digest) == [made / TINY.digest]
    with pytest.raises(InputError, match=r"expected a cache in .*got nothing"):
        verify.caches(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"expected a cache in .*got no cache"):
        verify.caches(tmp_path)


def test_an_unfinished_cache_is_a_fault(folder):
    (folder / "index.json").unlink()
    report = check(folder)
    assert [fault.file for fault in report.faults] == ["index.json"] and report.rows == 32
    assert json.dumps(report.faults[0].reason).count("make features") == 1


def test_shards_are_read_side_by_side(tmp_path):
    folder = noise_cache(tmp_path)
    shard = index.read_index(folder).shards[1]
    flip(folder / shard.file, shard.frames_offset)
    found = verify.check_cache(folder, Workers(2, "threading"), progress=False)
    assert [(fault.file, fault.row, fault.clips) for fault in found.faults] == [
        (shard.file, 0, (shard.clips[0].clip,))
    ]
    assert found.rows == 2 * 2 * len(EMOTIONS) and found.bytes > 0
