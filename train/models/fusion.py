"""The whole network: branches, the fusion of their embeddings, and the published probabilities."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import keras

from train.heads import INPUTS
from train.models import audio, layers, video
from train.settings import Settings

BUILDERS = {"audio": audio.build, "video": video.build}
"""What builds the branch of each name in :data:`train.heads.INPUTS`."""

FUSION_UNITS = 96
POOL = "pooled_logits"


def build(
    branches: Mapping[str, keras.Model], trained: Collection[str], settings: Settings
) -> keras.Model:
    """Join branches: embeddings concatenated, dense, and the branches' logits.

    Parameters
    ----------
    branches
        By name, in the order of :data:`train.heads.INPUTS`; their weights are shared.
    trained
        Those that are trained; others count nothing in the fused probabilities.
    settings
        Gives ``dropout``.

    Returns
    -------
    keras.Model
        Inputs are those of the branches, ``mfcc`` and ``frames`` as they lie in the cache. Outputs,
        each float32: ``fused`` and one of each branch's name, probabilities (batch, 8) that nothing
        has to be applied to; and of each branch ``<name>_distance`` (batch, 1), see
        :class:`train.models.layers.MahalanobisDistance`. A model with a speaker reference has the
        further inputs ``mfcc_reference`` and ``frames_reference``, means over clips of the speaker
        of the further outputs ``mfcc_average`` and ``frames_average``.

    Notes
    -----
    Branches are trained apart and the dense layer after them, on what they have learned: a network
    trained as one follows the modality that it memorises first, see Wang, Tran & Feiszli 2020,
    "What makes training multi-modal classification networks hard?".
    """
    inputs = {name: tensor for branch in branches.values() for name, tensor in branch.input.items()}
    inputs = {
        name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=name)
        for name, tensor in inputs.items()
    }
    embeddings, logits, present, distances, outputs = [], [], [], [], {}
    for name, branch in branches.items():
        answer = branch({key: inputs[key] for key in branch.input})
        embeddings.append(answer["embedding"])
        temperature = layers.Temperature(dtype="float32", name=f"{name}_temperature")
        logits.append(temperature(answer["logits"]))
        outputs[name] = keras.layers.Softmax(dtype="float32", name=name)(logits[-1])
        present.append(layers.Presence(name=f"{name}_present")(inputs[INPUTS[name]]))
        distance = layers.MahalanobisDistance(dtype="float32", name=f"{name}_distance")
        distances.append(distance(answer[measured(branch)]))
        outputs[f"{name}_distance"] = distances[-1]
        if "average" in answer:
            outputs[f"{INPUTS[name]}_average"] = answer["average"]
    x = keras.layers.Concatenate(name="fusion")(embeddings)
    x = keras.layers.Dense(FUSION_UNITS, activation="relu", name="fusion_dense")(x)
    x = keras.layers.Dropout(settings.dropout, name="fusion_dropout")(x)
    # The fused logits begin as the sum of the branches'; the dense layer learns what that misses.
    correction = keras.layers.Dense(
        logits[0].shape[-1], kernel_initializer="zeros", dtype="float32", name="fusion_logits"
    )(x)
    pooled = layers.LogLinearPool([name in trained for name in branches], name=POOL)(
        logits, present, distances, correction
    )
    pooled = layers.Temperature(dtype="float32", name="fused_temperature")(pooled)
    outputs["fused"] = keras.layers.Softmax(dtype="float32", name="fused")(pooled)
    return keras.Model(inputs, outputs, name="emotion")


def measured(branch: keras.Model) -> str:
    """Name the output of a branch that distances are of: its ``layer_means``, if it has any."""
    return "layer_means" if "layer_means" in branch.output else "embedding"


def pooled_logits(network: keras.Model) -> keras.Model:
    """Return the part of a network that ends in the fused logits before their temperature."""
    return keras.Model(network.input, {"logits": network.get_layer(POOL).output}, name="pooled")
