"""No damaged row reaches a network: training and prediction stop, or leave its clip out."""

import keras
import numpy as np
import pytest
import small_training
from conftest import write_rows
from test_cli import assert_one_line, command
from test_verify import flip_row

from pipeline.cache import index
from pipeline.errors import InputError
from train import commands as train_commands
from train.data import reader, rows
from train.evaluation import metrics
from train.heads import HEADS


@pytest.fixture
def found(small_spec, tmp_path):
    """Made-up rows of four actors with four emotions each, which a test may damage."""
    clips = [
        (actor, emotion, "av")
        for actor in (1, 2, 3, 4)
        for emotion in ("neutral", "happy", "angry", "surprised")
    ]
    return write_rows(tmp_path / "cache", small_spec, clips)


def name_of(found, actor, row):
    """File and clip of an actor's row."""
    clip = [clip for clip in found.clips if clip.actor == actor][row // 2]
    return clip.shard, clip.clip


def test_training_stops_at_a_damaged_row(found, tmp_path):
    file, clip = name_of(found, 1, 3)
    flip_row(found.folder, 1, 3)
    with pytest.raises(InputError, match=rf"^expected row 3 of .*{file}, clip {clip}.*--skip-bad"):
        small_training.train(found, tmp_path / "model")
    assert not (tmp_path / "model" / "model.json").exists()


@pytest.mark.slow
def test_the_command_ends_at_a_damaged_row_and_says_which_in_one_line(found, tmp_path):
    file, clip = name_of(found, 1, 3)
    flip_row(found.folder, 1, 3)
    answer = command(
        *(
            "train",
            "fit",
            "--cache",
            found.folder,
            "--model",
            tmp_path / "model",
            "--epochs-scale",
            0.01,
        )
    )
    assert answer.returncode == 2 and "Traceback" not in answer.stderr
    last = answer.stderr.strip().splitlines()[-1]
    assert last.startswith("error: expected row 3 of ") and f"{file}, clip {clip}" in last
    assert last.endswith("--skip-bad trains without the clip")
    assert not (tmp_path / "model" / "model.json").exists()


def test_prediction_stops_at_a_damaged_row(found):
    file, _ = name_of(found, 4, 2)
    flip_row(found.folder, 4, 2)
    inputs = {
        "mfcc": keras.Input(found.spec.mfcc_shape, name="mfcc"),
        "frames": keras.Input(found.spec.frames_shape, name="frames", dtype="uint8"),
    }
    heads = {
        head: keras.layers.Dense(8)(keras.layers.GlobalAveragePooling2D()(inputs["mfcc"]))
        for head in HEADS
    }
    network = keras.Model(inputs, heads)
    assert len(metrics.predict(network, rows.select_rows(found, (3,)))["fused"]) == 4
    with pytest.raises(InputError, match=rf"row 2 of .*{file}"):
        metrics.predict(network, rows.select_rows(found, (4,)))


def test_skip_bad_leaves_the_damaged_clip_out(found, capsys):
    file, clip = name_of(found, 2, 5)
    flip_row(found.folder, 2, 5)
    less = train_commands.open_cache(found.folder, skip_bad=True)
    said = [line for line in capsys.readouterr().out.splitlines() if line]
    assert len(said) == 1 and said[0].startswith("left out: ") and f"{file} row 5" in said[0]
    kept = rows.select_rows(less, (1, 2), variants=True)
    assert len(kept) == 14 and clip not in kept.clip
    expected = rows.select_rows(found, (1,), variants=True)
    got = reader.RowReader(kept).read(np.arange(14))["frames"]
    assert np.array_equal(got[:8], reader.RowReader(expected).read(np.arange(8))["frames"])
    assert less.fingerprint != found.fingerprint


def test_a_row_is_compared_once(found):
    """Rows do not rot in the page cache; only the first read of a row is compared."""
    chosen = rows.select_rows(found, (1,))
    reads = reader.RowReader(chosen)
    reads.read(np.array([2]))
    assert reads.checked.tolist() == [False, False, True, False]
    flip_row(found.folder, 1, 4)
    reads.read(np.array([2]))
    with pytest.raises(InputError, match="row 4"):
        reader.RowReader(chosen).read(np.array([2]))


def test_a_cache_of_the_format_before_is_refused_with_the_remedy(tmp_path):
    folder = tmp_path / ("0" * 16)
    folder.mkdir()
    (folder / index.INDEX_NAME).write_text('{"format_version": 2}')
    answer = command("train", "fit", "--cache", tmp_path, "--model", tmp_path / "model")
    assert_one_line(answer, "expected cache format 3", "got 2", "run 'make features' again")
