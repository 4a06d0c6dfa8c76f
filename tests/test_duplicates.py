"""A recording under two names never reaches training."""

import shutil

import numpy as np
import pytest
import soundfile
from conftest import RATE, write_take, write_wav

from pipeline.cache import build, index
from pipeline.corpora import catalogue
from pipeline.errors import InputError
from train import duplicates, reading, table


def take(root, emotion, actor, **changes):
    return write_take(root, f"01-01-{emotion:02d}-01-01-01-{actor:02d}", **changes)


def clip(emotion, actor):
    return f"01-{emotion:02d}-01-01-01-{actor:02d}"


@pytest.fixture(scope="module")
def copied(tmp_path_factory, spec):
    """Four actors, four emotions; four recordings are filed under a second name."""
    root = tmp_path_factory.mktemp("copied")
    for actor in (1, 2, 3, 4):
        for emotion in (1, 3, 5, 8):
            take(root, emotion, actor, hertz=150 * emotion + 9 * actor)

    def video(emotion, actor):
        return next(root.rglob(f"videos/*/01-01-{emotion:02d}-01-01-01-{actor:02d}.mp4"))

    def sound(emotion, actor):
        return next(root.rglob(f"audios/*/03-01-{emotion:02d}-01-01-01-{actor:02d}.wav"))

    # The same file under a test actor's and a training actor's name.
    shutil.copy(video(1, 4), video(1, 1))
    # The same samples in another file, under a training and a validation actor's name.
    samples, rate = soundfile.read(sound(3, 2), dtype="int16")
    soundfile.write(sound(3, 3), samples, rate, format="WAVEX")
    assert sound(3, 3).read_bytes() != sound(3, 2).read_bytes()
    # Within one actor it is no leak. Two silent clips are not one recording.
    shutil.copy(sound(5, 2), sound(8, 2))
    for actor in (1, 2):
        write_wav(sound(5, actor) if actor == 1 else sound(1, 2), np.zeros(RATE + actor), RATE)
    cache = tmp_path_factory.mktemp("cache")
    build.build(catalogue.scan(root), cache, spec, jobs=1, progress=False)
    return index.find_cache(cache)


def test_copies_across_actors_are_found(copied):
    groups = duplicates.across_actors(copied)
    assert [[entry.clip for entry in group] for group in groups] == [
        [clip(1, 1), clip(1, 4)],
        [clip(3, 2), clip(3, 3)],
    ]
    said = duplicates.line(groups)
    assert said.startswith("left out of training and validation: 4 clips") and "\n" not in said
    assert f"{clip(1, 1)} (actor 1) = {clip(1, 4)} (actor 4)" in said
    assert duplicates.line(groups * 3).endswith("and 3 more")


def test_every_copy_is_left_out_clean_and_augmented(copied):
    copies = duplicates.left_out(duplicates.across_actors(copied))
    every = table.select_rows(copied, (1, 2, 3), variants=True)
    kept = table.select_rows(copied, (1, 2, 3), variants=True, left_out=copies)
    assert set(every.clip) - set(kept.clip) == {clip(1, 1), clip(3, 2), clip(3, 3)}
    assert len(every) - len(kept) == 6
    with pytest.raises(InputError, match="only clips that are left out"):
        table.select_rows(copied, (1,), left_out=set(every.clip))


class StoppedHere(Exception):
    pass


def test_training_never_sees_them_and_the_test_keeps_its_own(copied, tmp_path, monkeypatch):
    from train import fit
    from train.protocol import Split
    from train.settings import Settings

    taken = []
    select = table.select_rows

    def watched(*words, **named):
        taken.append(set(select(*words, **named).clip))
        return select(*words, **named)

    def stop(rows):
        raise StoppedHere

    monkeypatch.setattr(table, "select_rows", watched)
    monkeypatch.setattr(reading, "mfcc_statistics", stop)
    with pytest.raises(StoppedHere):
        fit.fit(copied, tmp_path, Split((1, 2), (3,), (4,)), Settings(), progress=False)
    training, clean, validation, all_but_test, test = taken
    assert training == clean
    assert all_but_test == training | validation
    assert not all_but_test & {clip(1, 1), clip(3, 2), clip(3, 3)}
    assert clip(8, 2) in training and clip(1, 4) in test


def test_a_corpus_without_copies_loses_nothing(cache):
    assert duplicates.across_actors(index.find_cache(cache)) == []
