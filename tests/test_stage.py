"""One stage of a training: its loss, its end, its precision, and going on with it."""

import csv
import dataclasses
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import write_rows
from scipy import special
from small_training import BUILDERS, SETTINGS

from pipeline.errors import InputError
from train import runtime
from train.data import dataset, rows, statistics
from train.loop import checkpoint, schedule, stage
from train.models import fusion
from train.settings import Settings

EVEN = (1 / 8,) * 8


def training_in(folder, settings=SETTINGS, resume=False, prior=EVEN):
    started_with = {"seed": settings.seed, "learning_rate": settings.learning_rate}
    return stage.Training(folder, settings, prior, started_with, resume, False)


def small(name, spec, seed=0):
    keras.utils.set_random_seed(seed)
    return BUILDERS[name](spec, None, SETTINGS)


def train(branch, name, training, *given):
    """Train a branch with a trainer of its own, as another process would."""
    stage.train(stage.trainer_of(branch, training.settings, training.prior), name, training, *given)


def real(name, table, settings):
    keras.utils.set_random_seed(0)
    with runtime.precision(settings.precision):
        return fusion.BUILDERS[name](table.spec, statistics.mfcc_statistics(table), settings)


def log_of(folder):
    with (folder / stage.LOG_NAME).open() as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def table(small_cache):
    return rows.select_rows(small_cache, (1, 2))


@pytest.fixture(scope="module")
def validation(small_cache):
    return rows.select_rows(small_cache, (3,))


class Interrupt(keras.callbacks.Callback):
    """What a user does in the middle of an epoch."""

    def __init__(self, name, epochs, steps, first_epoch):
        super().__init__()
        self.left = steps + steps // 2 + 1

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


# Loss


def test_the_loss_is_the_mean_cross_entropy_of_each_trained_output():
    random = np.random.default_rng(0)
    logits, label = random.normal(size=(5, 2, 8)).astype(np.float32), np.array([0, 1, 7, 3, 3])
    taken = special.log_softmax(logits, axis=-1)[np.arange(5), :, label]
    assert np.asarray(stage.mean_crossentropy(label, logits)) == pytest.approx(
        -taken.mean(axis=1), abs=1e-5
    )
    right = logits.mean(axis=1).argmax(axis=1) == label
    assert np.asarray(stage.accuracy(label, logits)).tolist() == right.tolist()


def test_a_class_prior_is_added_in_training_only(table):
    prior = tuple(np.arange(1, 9) / 36)
    branch = small("video", table.spec)
    model = stage.trainer_of(branch, SETTINGS, prior).model
    frames = next(iter(dataset.in_order(table, 4, ("frames",))))[0]
    plain = np.asarray(model(frames))
    assert plain.shape == (4, 1, 8)
    assert plain[:, 0] == pytest.approx(np.asarray(branch(frames)["logits"]), abs=1e-6)
    adjusted = keras.Model(model.layers[-1].input, model.output)(plain, training=True)
    assert np.asarray(adjusted) == pytest.approx(plain + np.log(prior), abs=1e-5)


def test_auxiliary_logits_are_trained_where_there_are_any(table):
    branch = real("audio", table, SETTINGS)
    count = sum(name.endswith("_logits") for name in branch.output)
    assert count > 1
    assert stage.trainer_of(branch, SETTINGS, EVEN).model.output.shape == (None, count, 8)


# A whole stage


def test_a_stage_learns_and_ends_with_its_best_epoch(table, validation, tmp_path):
    branch = small("audio", table.spec)
    before = branch.get_weights()
    train(branch, "audio", training_in(tmp_path), table, validation, 20)
    epochs = log_of(tmp_path / "audio")
    assert float(epochs[-1]["loss"]) < 0.7 * float(epochs[0]["loss"])
    assert any(np.any(a != b) for a, b in zip(before, branch.get_weights(), strict=True))
    watched = [float(epoch["val_accuracy"]) for epoch in epochs]
    state = checkpoint.read_state(tmp_path / "audio", {})
    assert state.best == f"epoch-{1 + int(np.argmax(watched))}.npz"
    model = stage.trainer_of(small("audio", table.spec), SETTINGS, EVEN).model
    checkpoint.load(model, tmp_path / "audio", state.best, state)
    ended = branch.get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), ended, strict=True))
    assert list((tmp_path / "tensorboard" / "audio").rglob("events.out.*"))
    # Finished, it is not done again, and gives a new network what it ended with.
    fresh, log = small("audio", table.spec), (tmp_path / "audio" / stage.LOG_NAME).read_text()
    train(fresh, "audio", training_in(tmp_path, resume=True), table, validation, 20)
    assert (tmp_path / "audio" / stage.LOG_NAME).read_text() == log
    assert all(np.array_equal(a, b) for a, b in zip(fresh.get_weights(), ended, strict=True))


def test_without_validation_all_epochs_are_done_and_the_last_one_counts(table, tmp_path):
    branch = small("video", table.spec)
    train(branch, "video", training_in(tmp_path), table, None, 3)
    assert [row.get("val_loss", "NA") for row in log_of(tmp_path / "video")] == ["NA"] * 3
    assert checkpoint.read_state(tmp_path / "video", {}).best == "epoch-3.npz"


def test_a_stage_that_gets_no_better_is_slowed_down_and_stopped_by_default(tmp_path, small_spec):
    """Nobody in training has the validation actor's emotion."""
    clips = [(actor, emotion, "v") for actor in (1, 2) for emotion in ("neutral", "happy") * 8]
    clips += [(3, "angry", "v")] * 4
    made = write_rows(tmp_path / "cache", small_spec, clips)
    training, watched = (rows.select_rows(made, actors) for actors in ((1, 2), (3,)))
    settings = Settings()
    # So that the emotion is never the answer, from the first epoch on.
    branch = small("video", small_spec)
    bias = np.zeros(8)
    bias[training.label[0]] = 50
    branch.get_layer("video_logits").bias.assign(bias)
    chosen = training_in(tmp_path, settings)
    train(branch, "video", chosen, training, watched, settings.video_epochs)
    epochs = log_of(tmp_path / "video")
    assert [float(epoch["val_accuracy"]) for epoch in epochs] == [0] * (1 + settings.patience)
    assert len(epochs) < settings.video_epochs
    assert checkpoint.read_state(tmp_path / "video", {}).stopped_early
    steps = dataset.steps_per_epoch(training, settings.batch_size)
    part = schedule.warmup_cosine(
        len(epochs) * steps - 1, steps * settings.warmup_epochs, settings.video_epochs * steps
    )
    # The log has the rate of an epoch before the plateau halves it for the second time.
    rate = settings.learning_rate * part / 2
    assert float(epochs[-1]["learning_rate"]) == pytest.approx(rate, rel=1e-3)
    # An early end is an end: going on does nothing.
    train(
        small("video", small_spec),
        "video",
        training_in(tmp_path, settings, resume=True),
        training,
        watched,
        settings.video_epochs,
    )
    assert log_of(tmp_path / "video") == epochs


@pytest.mark.parametrize("watching", [True, False])
def test_an_interrupted_stage_ends_as_an_uninterrupted_one(
    table, validation, tmp_path, monkeypatch, watching
):
    watched = validation if watching else None
    ends = []
    for name in ("whole", "interrupted"):
        folder, branch = tmp_path / name, small("video", table.spec)
        if name == "interrupted":
            with monkeypatch.context() as patch:
                patch.setattr(stage, "Progress", Interrupt)
                shown = dataclasses.replace(training_in(folder), progress=True)
                with pytest.raises(KeyboardInterrupt):
                    train(branch, "video", shown, table, watched, 4)
            assert checkpoint.read_state(folder / "video", {}).epoch == 1
            # Another process: other weights, other random numbers.
            branch = small("video", table.spec, 99)
        training = training_in(folder, resume=name == "interrupted")
        train(branch, "video", training, table, watched, 4)
        state = checkpoint.read_state(folder / "video", {})
        ends.append((state, log_of(folder / "video"), [w.tobytes() for w in branch.get_weights()]))
    assert ends[0] == ends[1]


def test_a_diverging_stage_keeps_its_last_good_epoch(table, validation, tmp_path):
    branch, folder = small("audio", table.spec), tmp_path / "audio"
    calm = dataclasses.replace(SETTINGS, warmup_epochs=0)
    train(branch, "audio", training_in(tmp_path, calm), table, None, 2)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    # The same stage with more epochs and an absurd rate.
    absurd = dataclasses.replace(calm, learning_rate=1e38)
    with pytest.raises(InputError, match=r"finite loss, got .* in epoch 3; .* with --resume"):
        train(branch, "audio", training_in(tmp_path, absurd, True), table, None, 4)
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    names = {checkpoint.STATE_NAME, "epoch-2.npz"}
    assert {name: after[name] for name in names} == {name: before[name] for name in names}
    train(branch, "audio", training_in(tmp_path, calm, True), table, None, 4)
    assert len(log_of(folder)) == 4
    assert all(np.isfinite(values).all() for values in branch.get_weights())


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("video", "mixed_float16"),
        pytest.param("audio", "mixed_float16", marks=pytest.mark.slow),
        pytest.param("video", "mixed_bfloat16", marks=pytest.mark.slow),
        pytest.param("audio", "mixed_bfloat16", marks=pytest.mark.slow),
    ],
)
def test_mixed_precision_trains_one_stage_after_the_other(table, tmp_path, name, policy):
    settings = dataclasses.replace(SETTINGS, precision=policy)
    branch = real(name, table, settings)
    trainer, start = stage.trainer_of(branch, settings, EVEN), branch.get_weights()
    for part in (name, f"refit-{name}"):
        stage.train(trainer, part, training_in(tmp_path, settings), table, None, 4)
        losses = [float(epoch["loss"]) for epoch in log_of(tmp_path / part)]
        assert len(losses) == 4 and np.isfinite(losses).all()
        ended = branch.get_weights()
        assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(start, ended, strict=True))
        assert all(np.isfinite(values).all() and values.dtype == np.float32 for values in ended)
        start = ended


def test_each_stage_of_a_trainer_starts_with_a_fresh_optimizer(table, tmp_path):
    """It is traced once; what the first stage left in the optimizer is not in the second."""
    ends = []
    for name in ("one", "two"):
        branch = small("video", table.spec)
        trainer = stage.trainer_of(branch, SETTINGS, EVEN)
        stage.train(trainer, "video", training_in(tmp_path / name), table, None, 1)
        if name == "two":
            state = branch.get_weights(), [np.asarray(v) for v in branch.non_trainable_variables]
            fresh = small("video", table.spec, 99)
            fresh.set_weights(state[0])
            for variable, value in zip(fresh.non_trainable_variables, state[1], strict=True):
                variable.assign(value)
            branch, trainer = fresh, stage.trainer_of(fresh, SETTINGS, EVEN)
        stage.train(trainer, "refit-video", training_in(tmp_path / name), table, None, 1)
        ends.append(branch.get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(*ends, strict=True))


# Logs


def test_logs_of_all_stages_are_joined_in_order(tmp_path):
    for name, text in {
        "audio": "epoch,accuracy,loss,learning_rate,val_accuracy,val_loss\n"
        "0,0.1,2.0,0.01,0.5,1.9\n1,0.2,1.0,0.02,0.6,1.8\n",
        "refit-audio": "epoch,accuracy,loss,learning_rate\n0,0.9,0.1,0.03\n",
        "fusion": "epoch,accuracy,loss,learning_rate,val_accuracy,val_loss\n0,0.3,0.5,0.1,NA,NA\n",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / stage.LOG_NAME).write_text(text)
    joined = stage.join_logs(tmp_path, ["audio", "video"])
    lines = joined.read_text().splitlines()
    assert lines == [
        "stage,epoch,loss,accuracy,val_loss,val_accuracy,learning_rate",
        "audio,1,2.0,0.1,1.9,0.5,0.01",
        "audio,2,1.0,0.2,1.8,0.6,0.02",
        "fusion,1,0.5,0.3,,,0.1",
        "refit-audio,1,0.1,0.9,,,0.03",
    ]


def test_what_was_logged_after_the_last_state_is_dropped(tmp_path):
    log = tmp_path / stage.LOG_NAME
    log.write_text("epoch,loss\n0,2.0\n1,1.0\n2,0.")
    stage.keep_epochs(log, 1)
    assert log.read_text() == "epoch,loss\n0,2.0\n"


# Devices

DEVICES = """
import csv, sys
from pathlib import Path
import tensorflow as tf
cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
from pipeline.cache import index
from train.loop import stage
from train.data import rows
from train.models import layers
from train.settings import Settings
keras.utils.set_random_seed(0)
table = rows.select_rows(index.read_index(Path(sys.argv[1])), (1, 2))
settings = Settings(batch_size=8, warmup_epochs=0)
strategy = tf.distribute.MirroredStrategy([f"CPU:{n}" for n in range(int(sys.argv[2]))])
folder = Path(sys.argv[3])
training = stage.Training(folder, settings, (1 / 8,) * 8, {}, False, False)
with strategy.scope():
    frames = keras.Input(table.spec.frames_shape, dtype="uint8", name="frames")
    x = keras.layers.Flatten()(keras.ops.mean(layers.GreyDownscale()(frames), axis=1))
    branch = keras.Model({"frames": frames}, {"logits": keras.layers.Dense(8)(x)})
    trainer = stage.trainer_of(branch, settings, training.prior)
stage.train(trainer, "video", training, table, None, 4)
with (folder / "video" / "log.csv").open() as stream:
    print(*[row["loss"] for row in csv.DictReader(stream)])
"""


@pytest.mark.slow
def test_without_batch_normalisation_two_devices_train_exactly_as_one_does(small_cache, tmp_path):
    losses = []
    for devices in (1, 2):
        run = subprocess.run(
            [
                sys.executable,
                "-c",
                DEVICES,
                small_cache.folder,
                str(devices),
                tmp_path / f"{devices}",
            ],
            cwd=Path(__file__).parents[1],
            check=False,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr[-3000:]
        losses.append([float(word) for word in run.stdout.split()])
    assert losses[0][-1] < losses[0][0] and losses[1] == pytest.approx(losses[0], rel=1e-3)
