"""The state of a stage on disk: what is written, restored and refused."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from pipeline.errors import InputError
from train.loop import checkpoint


def network(units=3, rate=0.1):
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(units), keras.layers.Dropout(0.5)]
    )
    model.compile(keras.optimizers.Adam(rate), "mse", jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def values_of(model):
    return [np.asarray(variable) for variable in checkpoint.variables(model)]


def write(folder, model, settings=None):
    """A state of a single epoch, as the callback writes it."""
    log = folder / "log.csv"
    log.touch()
    callback = checkpoint.Checkpoint(folder, settings or {"seed": 3}, [], None, log, None)
    callback.set_model(model)
    callback.on_epoch_end(0, {"loss": 1.0})
    return callback


@pytest.fixture
def saved(tmp_path):
    keras.utils.set_random_seed(1)
    model = network()
    model.fit(np.ones((4, 2)), np.ones((4, 3)), verbose=0)
    return model, write(tmp_path, model), tmp_path


def test_weights_optimizer_and_random_state_come_back(saved):
    model, callback, folder = saved
    other = network()
    state = checkpoint.read_state(folder, {"seed": 3})
    assert state == callback.state
    checkpoint.restore(other, folder, state, 0.1)
    assert len(values_of(model)) == 2 + 1 + 2 + 2 * 2
    assert all(
        np.array_equal(a, b) for a, b in zip(values_of(model), values_of(other), strict=True)
    )
    draws = [np.asarray(one(np.ones((9, 2)), training=True)) for one in (model, other)]
    assert np.array_equal(*draws)


def test_the_first_of_the_best_epochs_is_kept_and_nothing_else(tmp_path):
    model, log = network(), tmp_path / "log.csv"
    log.touch()
    callback = checkpoint.Checkpoint(tmp_path, {}, [], "val_accuracy", log, None)
    callback.set_model(model)
    kept = []
    for epoch, value in enumerate((0.2, 0.5, 0.5, 0.4)):
        model.trainable_variables[0].assign(np.full((2, 3), epoch))
        callback.on_epoch_end(epoch, {"val_accuracy": value})
        kept.append(sorted(path.name for path in tmp_path.glob("*.npz")))
    names = [f"epoch-{number}.npz" for number in (1, 2, 3, 4)]
    assert kept == [names[:1], names[1:2], names[1:3], [names[1], names[3]]]
    state = checkpoint.read_state(tmp_path, {})
    assert (state.epoch, state.best, state.weights) == (4, names[1], names[3])
    other = network()
    checkpoint.load(other, tmp_path, state.best, state)
    assert (np.asarray(other.trainable_variables[0]) == 1).all()


def test_callbacks_remember_what_they_saw(tmp_path):
    model, log = network(), tmp_path / "log.csv"
    log.touch()
    early = keras.callbacks.EarlyStopping("val_loss", patience=3)
    early.set_model(model)
    early.on_train_begin()
    early.on_epoch_end(0, {"val_loss": 1.0})
    early.on_epoch_end(1, {"val_loss": 2.0})
    callback = checkpoint.Checkpoint(tmp_path, {}, [early], None, log, None)
    callback.set_model(model)
    callback.on_epoch_end(1, {})
    fresh = keras.callbacks.EarlyStopping("val_loss", patience=3)
    fresh.set_model(model)
    fresh.on_train_begin()
    state = checkpoint.read_state(tmp_path, {})
    checkpoint.Checkpoint(tmp_path, {}, [fresh], None, log, state).on_train_begin()
    assert (fresh.wait, fresh.best) == (early.wait, early.best) == (1, 1.0)
    assert not state.stopped_early
    fresh.on_epoch_end(2, {"val_loss": 3.0})
    fresh.on_epoch_end(3, {"val_loss": 3.0})
    assert model.stop_training


def test_other_settings_are_refused_but_for_the_learning_rate(saved):
    _, _, folder = saved
    with pytest.raises(
        checkpoint.OtherSettings, match=r"\(seed 3 there, 4 now\).*remove .* to train anew"
    ):
        checkpoint.read_state(folder, {"seed": 4, "learning_rate": 7})
    assert checkpoint.read_state(folder, {"seed": 3, "learning_rate": 7}) is not None
    assert checkpoint.read_state(folder / "nowhere", {}) is None


def test_another_learning_rate_keeps_its_place_in_the_schedule(tmp_path):
    model = network(rate=0.1)
    model.optimizer.learning_rate.assign(0.025)  # a quarter of the peak
    state = write(tmp_path, model, {"learning_rate": 0.1}).state
    other = network(rate=0.02)
    checkpoint.restore(other, tmp_path, state, 0.02)
    assert float(other.optimizer.learning_rate) == pytest.approx(0.005)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"epoch": 1}', "null", '{"epoch": 1, "more": 2}', "\x00"]
)
def test_a_damaged_state_is_refused(tmp_path, text):
    (tmp_path / checkpoint.STATE_NAME).write_text(text)
    with pytest.raises(InputError, match=r"state of a training in .*state\.json, got"):
        checkpoint.read_state(tmp_path, {})


def test_damaged_and_foreign_weights_are_refused(saved):
    model, callback, folder = saved
    path = folder / callback.state.weights
    content = path.read_bytes()
    before = values_of(model)

    def refused(said, into=model, state=callback.state):
        with pytest.raises(InputError, match=said):
            checkpoint.load(into, folder, path.name, state)

    path.write_bytes(content[:-9])
    refused(r"epoch-1\.npz as it was written, got other content; remove ")
    path.unlink()
    refused(r"weights at .*epoch-1\.npz, got nothing; remove ")
    path.write_bytes(content)
    refused(r"weights of this network in .*epoch-1\.npz, got those of another", network(units=4))
    assert all(np.array_equal(a, b) for a, b in zip(before, values_of(model), strict=True))


def test_weights_of_an_epoch_that_was_not_finished_are_removed(saved):
    model, callback, folder = saved
    left = folder / "epoch-2.npz"
    left.write_bytes(b"half")
    checkpoint.restore(model, folder, callback.state, 0.1)
    assert not left.exists() and (folder / "epoch-1.npz").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_training(tmp_path, value):
    stop = checkpoint.StopWhenDiverged(tmp_path)
    stop.on_epoch_begin(4)
    stop.on_train_batch_end(0, {"loss": 1.0, "accuracy": value})
    with pytest.raises(
        InputError, match=r"finite loss, got loss (nan|inf) in epoch 5; nothing was"
    ):
        stop.on_train_batch_end(0, {"loss": value})
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / checkpoint.STATE_NAME).write_text("{}")
    with pytest.raises(InputError, match=r"got val_loss .* go on from there with --resume"):
        stop.on_epoch_end(4, {"loss": 1.0, "val_loss": value})


def test_a_state_is_plain_json(saved):
    _, callback, folder = saved
    text = (folder / checkpoint.STATE_NAME).read_text()
    assert json.loads(text) == dataclasses.asdict(callback.state)
