"""Grad-CAM: on made-up data whose label lies in one corner, the map lies there."""

import cv2
import keras
import numpy as np
import pytest

from infer import explain
from pipeline.errors import InputError
from pipeline.spec import EMOTIONS

FRAMES, SIDE, COUNT, COLUMNS = 4, 32, 40, 44


def branch(name):
    """A convolution that passes on what is bright, and an emotion for each corner of the input."""
    if name == "video":
        inputs = keras.Input((FRAMES, SIDE, SIDE, 3), dtype="uint8", name="frames")
        x = keras.ops.cast(inputs, "float32") / 255.0
        x = keras.ops.reshape(keras.ops.mean(x, axis=-1), (-1, SIDE, SIDE, 1))
    else:
        inputs = keras.Input((COUNT, COLUMNS, 1), name="mfcc")
        x = keras.ops.transpose(inputs, (0, 2, 1, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False, name="space")(x)
    pooled = keras.ops.mean(x, axis=(1, 2))
    if name == "video":
        pooled = keras.ops.mean(keras.ops.reshape(pooled, (-1, FRAMES, 4)), axis=1)
    logits = keras.layers.Dense(len(EMOTIONS), name="dense")(pooled)
    model = keras.Model(
        {inputs.name: inputs}, {"embedding": pooled, "logits": logits}, name=f"{name}_branch"
    )
    kernel = np.zeros((3, 3, 1, 4), np.float32)
    kernel[1, 1] = 1.0
    model.get_layer("space").set_weights([kernel])
    model.get_layer("dense").set_weights([np.ones((4, 8), np.float32), np.zeros(8, np.float32)])
    return model


@pytest.fixture(scope="module")
def network():
    branches = {name: branch(name) for name in ("audio", "video")}
    inputs = {
        "mfcc": keras.Input((COUNT, COLUMNS, 1), name="mfcc"),
        "frames": keras.Input((FRAMES, SIDE, SIDE, 3), dtype="uint8", name="frames"),
    }
    said = [model({k: inputs[k] for k in model.input})["logits"] for model in branches.values()]
    return keras.Model(inputs, {"fused": keras.ops.softmax(said[0] + said[1])})


@pytest.mark.parametrize("down", [0, 1])
@pytest.mark.parametrize("right", [0, 1])
def test_the_map_lies_where_the_label_lies(network, down, right):
    frames = np.zeros((1, FRAMES, SIDE, SIDE, 3), np.uint8)
    mfcc = np.zeros((1, COUNT, COLUMNS, 1), np.float32)
    rows = slice(down * 24, down * 24 + 8)
    columns = slice(right * 24, right * 24 + 8)
    frames[0, 2, rows, columns] = 255
    mfcc[0, rows, columns] = 9.0
    found = explain.maps(network, {"mfcc": mfcc, "frames": frames}, 3)
    assert found["video"].shape == (FRAMES, SIDE, SIDE)
    assert found["audio"].shape == (COUNT, COLUMNS)
    for values in (found["video"][2], found["audio"]):
        assert values.max() == pytest.approx(1.0)
        inside = values[rows, columns].sum()
        assert inside == pytest.approx(values.sum(), rel=1e-4)
    assert found["video"][[0, 1, 3]].max() == 0.0
    figure = explain.png_bytes({"mfcc": mfcc, "frames": frames}, found, "sad")
    assert cv2.imdecode(np.frombuffer(figure, np.uint8), cv2.IMREAD_COLOR).shape[1] > 1000


def test_a_missing_modality_has_no_map(network):
    tensors = {
        "mfcc": np.zeros((1, COUNT, COLUMNS, 1), np.float32),
        "frames": np.full((1, FRAMES, SIDE, SIDE, 3), 9, np.uint8),
    }
    assert set(explain.maps(network, tensors, 0)) == {"video"}


def test_a_branch_without_a_convolution_is_refused():
    inputs = keras.Input((4,))
    flat = keras.Model(inputs, keras.layers.Dense(8)(inputs), name="audio")
    with pytest.raises(InputError, match="two axes"):
        explain.last_convolution(flat)
