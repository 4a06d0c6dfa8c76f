"""Learning rates of a stage."""

import keras
import numpy as np
import pytest

from train.loop import schedule
from train.settings import Settings


def test_warm_up_then_cosine():
    values = [schedule.warmup_cosine(step, 10, 110) for step in range(120)]
    assert values[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert values[60] == pytest.approx((1 + 0.02) / 2)
    assert values[110:] == pytest.approx([0.02] * 10)
    assert all(0 < value <= 1 for value in values)


def test_schedule_and_plateau_compose():
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    network.compile(keras.optimizers.Adam(0.1), "mse")
    network.optimizer.build(network.trainable_variables)
    warm = schedule.WarmupCosine(4, 40)
    plateau = keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=1)
    for callback in (warm, plateau):
        callback.set_model(network)
        callback.on_train_begin()
    rates = []
    for epoch in range(4):
        for batch in range(10):
            warm.on_train_batch_begin(batch)
            rates.append(float(network.optimizer.learning_rate))
        plateau.on_epoch_end(epoch, {"val_loss": 1.0 if epoch < 3 else 2.0})
    cuts = [1.0] * 20 + [0.5] * 10 + [0.25] * 10
    expected = [0.1 * schedule.warmup_cosine(step, 4, 40) * cut for step, cut in enumerate(cuts)]
    assert rates == pytest.approx(expected, rel=1e-4)


def test_a_resumed_schedule_goes_on_where_it_was():
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    network.compile(keras.optimizers.Adam(0.1), "mse")
    first = schedule.WarmupCosine(4, 20)
    second = schedule.WarmupCosine(4, 20, first_step=8)
    rates = []
    for callback, steps in ((first, 8), (second, 12)):
        callback.set_model(network)
        for batch in range(steps):
            callback.on_train_batch_begin(batch)
            rates.append(float(network.optimizer.learning_rate))
    expected = [0.1 * schedule.warmup_cosine(step, 4, 20) for step in range(20)]
    assert rates == pytest.approx(expected, rel=1e-4)


def test_only_gradients_of_float16_are_scaled():
    for precision in ("float32", "mixed_bfloat16"):
        adam = schedule.optimizer(Settings(precision=precision, learning_rate=0.3, clip_norm=2))
        assert isinstance(adam, keras.optimizers.Adam)
        assert (float(adam.learning_rate), adam.global_clipnorm) == (pytest.approx(0.3), 2)
    scaled = schedule.optimizer(Settings(precision="mixed_float16"))
    assert isinstance(scaled, keras.optimizers.LossScaleOptimizer)
