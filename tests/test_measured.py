"""What an audit keeps: nothing is measured twice, and nothing that changed is taken for known."""

import os
import sqlite3

import pytest
from conftest import tone, write_wav

from pipeline import guard, parallel
from pipeline.backends import Workers
from pipeline.corpora import facts, measured, scan
from pipeline.errors import InputError
from pipeline.spec import FeatureSpec

CLIPS = 6


@pytest.fixture
def raw(tmp_path):
    root = tmp_path / "raw"
    for number in range(1, CLIPS + 1):
        write_wav(root / f"03-01-{number:02d}-01-01-01-01.wav", tone(0.5, 100 * number))
    return root


@pytest.fixture
def asked(monkeypatch):
    """Clips that are measured, by name."""
    names, collect = [], parallel.collect

    def note(work, items, *rest):
        names.extend(item[0].id for item in items)
        return collect(work, items, *rest)

    monkeypatch.setattr(parallel, "collect", note)
    return names


def run(raw, store):
    found = scan.scan(raw)
    return facts.measure_all(found, FeatureSpec(), Workers(1), raw.parent, store, progress=False)


def test_a_second_run_measures_only_what_is_new_or_changed(raw, tmp_path, asked):
    store = measured.Store(tmp_path / "audit.json.sqlite")
    first = run(raw, store)
    assert len(asked) == CLIPS and len(set(asked)) == CLIPS
    asked.clear()
    assert run(raw, store) == first and asked == []
    changed = raw / "03-01-02-01-01-01-01.wav"
    write_wav(changed, tone(0.7, 333))
    os.utime(raw / "03-01-03-01-01-01-01.wav", ns=(1, 1))
    write_wav(raw / "03-01-07-01-01-01-01.wav", tone(0.5, 700))
    (raw / "03-01-01-01-01-01-01.wav").unlink()
    again = run(raw, store)
    assert asked == ["01-02-01-01-01-01", "01-03-01-01-01-01", "01-07-01-01-01-01"]
    by_clip = {fact.clip: fact for fact in again}
    assert by_clip["01-02-01-01-01-01"].audio_seconds == 0.7 and len(again) == CLIPS
    asked.clear()
    assert run(raw, store) == again and asked == []


def test_an_interrupted_run_goes_on_after_the_last_chunk(raw, tmp_path, asked, monkeypatch):
    store = measured.Store(tmp_path / "kept.sqlite")
    monkeypatch.setattr(facts, "CHUNK_CLIPS", 2)
    collect = parallel.collect

    def interrupted(*given):
        if len(asked) == 4:
            raise KeyboardInterrupt
        return collect(*given)

    with monkeypatch.context() as patch:
        patch.setattr(parallel, "collect", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(raw, store)
    before = list(asked)
    assert len(before) == 4
    whole = run(raw, store)
    assert len(asked) == CLIPS and len(set(asked)) == CLIPS
    assert whole == run(raw, None)


def test_facts_of_other_code_or_another_window_are_not_taken(raw, tmp_path, asked, monkeypatch):
    store = measured.Store(tmp_path / "kept.sqlite")
    run(raw, store)
    clip = scan.scan(raw).clips[0]
    key = measured.key_of(clip, raw, FeatureSpec())
    assert key != measured.key_of(clip, raw, FeatureSpec(window_seconds=1.0))
    monkeypatch.setattr(measured, "measuring_version", lambda: "of tomorrow")
    assert key != measured.key_of(clip, raw, FeatureSpec())
    asked.clear()
    run(raw, store)
    assert len(asked) == CLIPS


def test_what_may_pass_is_measured_again(raw, tmp_path, asked, monkeypatch):
    (raw / "03-01-08-01-01-01-01.wav").write_bytes(b"no audio")
    (raw / "03-01-07-01-01-01-01.wav").write_bytes(b"RIFF")
    store = measured.Store(tmp_path / "kept.sqlite")
    run(raw, store)
    asked.clear()
    # A damaged file stays damaged: its problem is kept, too.
    damaged = {fact.clip: fact.problems for fact in run(raw, store) if fact.problems}
    assert asked == [] and len(damaged) == 2
    for number in range(2, 9):
        (raw / f"03-01-{number:02d}-01-01-01-01.wav").unlink()
    (raw / "03-01-01-01-01-01-01.wav").touch()
    with monkeypatch.context() as patch:
        patch.setattr(guard, "call", lambda *_, **__: guard.Failure("too late", transient=True))
        (late,) = run(raw, store)
    assert late.problems == ("too late",)
    asked.clear()
    (again,) = run(raw, store)
    assert asked == [again.clip] and not again.problems


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\0" + bytes(200)])
def test_a_file_that_is_no_store_is_one_line(raw, tmp_path, content):
    path = tmp_path / "kept.sqlite"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"expected kept measurements in .*; move that file away"):
        run(raw, measured.Store(path))
    assert path.read_bytes() == content


def test_a_table_of_another_layout_is_one_line(raw, tmp_path):
    path = tmp_path / "kept.sqlite"
    with sqlite3.connect(path) as store:
        store.execute("CREATE TABLE measured (other TEXT)")
    with pytest.raises(InputError, match="no such column"):
        run(raw, measured.Store(path))
