"""Tensors of rows by number: what is read, what is compared, what stays open."""

import os
import resource
import shutil
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
from conftest import flip, write_rows

from pipeline.cache import index
from pipeline.errors import InputError
from train.data import dataset, reader, rows, statistics

NAMES = ("mfcc", "frames")


@pytest.fixture
def tensors_read(monkeypatch):
    """Bytes of each tensor that any reader reads from now on."""
    lengths, preadv = [], os.preadv

    def note(descriptor, views, place):
        lengths.extend(len(view) for view in views)
        return preadv(descriptor, views, place)

    monkeypatch.setattr(reader.os, "preadv", note)
    return lengths


def copied_with_row(found, root, number, tensor):
    """A copy of a cache, its clean rows of two actors, and where a tensor of one of them is."""
    shutil.copytree(found.folder, root / "copy")
    made = index.read_index(root / "copy")
    chosen = rows.select_rows(made, (1, 2))
    shard = chosen.shard[number]
    size = {"mfcc": made.spec.mfcc_bytes, "frames": made.spec.frames_bytes}[tensor]
    offset = chosen.offsets[shard][NAMES.index(tensor)]
    return made, chosen, (chosen.shards[shard], int(offset + chosen.row[number] * size))


def test_tensors_are_those_of_the_shards(small_cache):
    chosen = rows.select_rows(small_cache, (2, 4), variants=True)
    batch = reader.RowReader(chosen).read(np.array([13, 0, 5]))
    for place, number in enumerate((13, 0, 5)):
        with h5py.File(chosen.shards[chosen.shard[number]]) as file:
            row = chosen.row[number]
            for name in NAMES:
                assert np.array_equal(batch[name][place], file[name][row])
            assert chosen.label[number] == file["label"][row]


@pytest.mark.parametrize("name", NAMES)
def test_after_its_first_read_no_more_of_a_row_is_read_than_asked_for(
    small_cache, tensors_read, name
):
    chosen = rows.select_rows(small_cache, (1, 2, 3), variants=True)
    reads, numbers = reader.RowReader(chosen), np.arange(len(chosen))
    sizes = {"mfcc": small_cache.spec.mfcc_bytes, "frames": small_cache.spec.frames_bytes}
    assert list(reads.read(numbers, (name,))) == [name]
    # A checksum is that of a whole row.
    assert sorted(tensors_read) == sorted([*sizes.values()] * len(chosen))
    tensors_read.clear()
    reads.read(numbers, (name,))
    assert tensors_read == [sizes[name]] * len(chosen)


def test_a_stage_of_one_branch_reads_the_other_tensor_once(small_cache, tensors_read):
    """Epochs overlap by the batches read ahead, whose rows may be read whole twice."""
    chosen = rows.select_rows(small_cache, (1, 2, 3), variants=True)
    epochs = dataset.shuffled(chosen, 8, 0, ("mfcc",)).take(4 * 3)
    assert [list(inputs) for inputs, _ in epochs] == [["mfcc"]] * 12
    frames = tensors_read.count(small_cache.spec.frames_bytes)
    assert len(chosen) <= frames <= len(chosen) + 8
    assert tensors_read.count(small_cache.spec.mfcc_bytes) >= 4 * len(chosen)


def test_statistics_read_no_frames(small_cache, tensors_read):
    chosen = rows.select_rows(small_cache, (1, 2, 3))
    statistics.mfcc_statistics(chosen)
    assert tensors_read == [small_cache.spec.mfcc_bytes] * len(chosen)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damaged", NAMES)
def test_a_damaged_row_is_found_whatever_is_read_of_it(small_cache, tmp_path, name, damaged):
    made, chosen, place = copied_with_row(small_cache, tmp_path, 5, damaged)
    undamaged = reader.RowReader(rows.select_rows(small_cache, (1, 2)))
    flip(*place)
    reads = reader.RowReader(chosen)
    first = np.arange(4)
    assert np.array_equal(reads.read(first, (name,))[name], undamaged.read(first, (name,))[name])
    with pytest.raises(InputError, match=rf"clip {made.clips[5].clip}, as it was written"):
        reads.read(np.array([5]), (name,))


def test_a_cut_shard_names_the_row(small_cache, tmp_path):
    shutil.copytree(small_cache.folder, tmp_path / "cut")
    chosen = rows.select_rows(index.read_index(tmp_path / "cut"), (2,))
    reads = reader.RowReader(chosen)
    shard = small_cache.shard_facts[small_cache.clips[7].shard]
    with (tmp_path / "cut" / shard.file).open("r+b") as file:
        file.truncate(shard.frames_offset + 9)
    reads.read(np.array([0, 1, 2]))
    with pytest.raises(InputError, match=r"row 0 of .*actor-02-\w+\.h5, clip 01-08-01-00-07-02"):
        reads.read(np.array([3]))


def test_memory_of_batches_is_used_again_only_when_nobody_holds_it():
    memory = reader.BatchMemory()
    first = memory.empty((3, 5), np.float32)
    address = first.ctypes.data
    assert address % reader.ALIGNMENT_BYTES == 0 and first.shape == (3, 5)
    second = memory.empty((3, 5), np.float32)
    assert second.ctypes.data != address
    del first
    assert memory.empty((5, 3), np.float32).ctypes.data == address


def test_more_shards_than_files_may_be_open(tmp_path, small_spec, monkeypatch):
    """Eight threads read 80 shards with room for a dozen files more than are open now."""
    clips = [(actor, "sad", "av") for actor in range(1, 81)]
    chosen = rows.select_rows(write_rows(tmp_path, small_spec, clips), range(1, 81))
    monkeypatch.setattr(reader, "OPEN_SHARDS", 3)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 12, hard))
    try:
        reads = reader.RowReader(chosen)
        order = [np.random.default_rng(seed).permutation(80) for seed in range(8)]
        with ThreadPoolExecutor(8) as pool:
            found = [batch["mfcc"] for batch in pool.map(reads.read, order)]
        count = len(os.listdir("/proc/self/fd"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for numbers, mfcc in zip(order, found, strict=True):
        assert np.array_equal(mfcc, found[0][np.argsort(order[0])][numbers])
    del reads
    assert len(os.listdir("/proc/self/fd")) == count - 3
