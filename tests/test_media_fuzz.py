"""Damaged media end in a valid result or one line: no crash, no hang, no memory without bound."""

import fuzz_media
import pytest
from conftest import tally

PEAK_MB = 600
"""Bound of the whole reading process; its libraries alone take some 250."""


def check(found, count):
    assert found.bad == []
    assert found.tried == found.survived == count
    assert set(found.outcomes) == {"read", "partly", "refused"}
    assert 0 < found.peak_mb < PEAK_MB


@pytest.mark.torture
@pytest.mark.parametrize(
    ("count", "seed"), [(75, 0), pytest.param(3000, 1, marks=pytest.mark.slow)]
)
def test_damaged_files(tmp_path, count, seed):
    found = fuzz_media.hunt(tmp_path, count, seed=seed)
    tally("fuzz: damaged media files", found.tried, found.survived)
    check(found, count)


def test_mutants_are_the_same_for_the_same_numbers(tmp_path):
    (tmp_path / "a.wav").write_bytes(bytes(range(256)) * 40)
    first, again, other = (fuzz_media.mutant(tmp_path, 0, number) for number in (3, 3, 4))
    assert first == again != other
