"""Damaged media end in a valid result or one line: no crash, no hang, no memory without bound."""

import fuzz_media
import pytest

PEAK_MB = 600
"""Bound of the whole reading process; its libraries alone take some 250."""


def check(found, count):
    assert found.bad == []
    assert found.tried == found.survived == count
    assert set(found.outcomes) == {"read", "partly", "refused"}
    assert 0 < found.peak_mb < PEAK_MB


def test_some_damaged_files(tmp_path):
    check(fuzz_media.hunt(tmp_path, 75), 75)


@pytest.mark.slow
def test_many_damaged_files(tmp_path):
    check(fuzz_media.hunt(tmp_path, 3000, seed=1), 3000)


def test_mutants_are_the_same_for_the_same_numbers(tmp_path):
    (tmp_path / "a.wav").write_bytes(bytes(range(256)) * 40)
    first, again, other = (fuzz_media.mutant(tmp_path, 0, number) for number in (3, 3, 4))
    assert first == again != other
