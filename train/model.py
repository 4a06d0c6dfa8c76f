"""The fusion network: a 2D CNN hears, a 3D CNN sees, a dense layer decides."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
from numpy.typing import NDArray

from pipeline.spec import EMOTIONS, FeatureSpec

BATCH_NORMALIZATION_MOMENTUM = 0.9
"""Keras' 0.99 averages over some hundred steps, more than the first epochs have."""

AUDIO_FILTERS = (32, 48, 96)
VIDEO_FILTERS = (16, 32, 64, 96)
INSTANT = 96
"""Features of each instant, before time is pooled."""

EMBEDDING = 96
INPUTS = {"audio": "mfcc", "video": "frames"}
"""What each branch's own head is given."""

STANDARDIZATION_EPSILON = 1e-3
"""Variance below which a clip counts as one grey, in pictures of [0, 1]."""

MOTION_GAIN = 3.0
"""A face differs from its own mean about this many times less than from one grey."""


def build_fusion_cnn(
    spec: FeatureSpec,
    mfcc_mean: NDArray[np.float32],
    mfcc_variance: NDArray[np.float32],
    dropout: float = 0.4,
    votes: Mapping[str, float] | None = None,
) -> keras.Model:
    """Build the network that reads cached rows as they are.

    Parameters
    ----------
    spec
        Gives the input shapes.
    mfcc_mean, mfcc_variance
        Shape (mfcc_count,), over clean training rows.
    dropout
        Part of the embeddings dropped in training.
    votes
        What the scores of each head count for in the fused answer, 1 by default and in training;
        ``"fused"`` names those of the dense layer over both embeddings. See
        :func:`train.confidence.fit_votes`.

    Returns
    -------
    keras.Model
        Inputs ``mfcc`` (batch, mfcc_count, mfcc_columns, 1) float32 and ``frames``
        (batch, frame_count, size, size, 3) uint8; outputs ``fused``, ``audio`` and ``video``, each
        (batch, 8): probabilities from both modalities, from the voice's own head and from the
        face's own head.

    Notes
    -----
    Spatial and temporal convolutions of the video branch are separate, after Tran et al. 2018,
    "A closer look at spatiotemporal convolutions for action recognition". Each branch learns from
    its own head alone and fusion from what they say: a network trained as one follows the modality
    that it memorises first, here the face, and leaves the voice half learned, see Wang, Tran &
    Feiszli 2020, "What makes training multi-modal classification networks hard?".
    """
    mfcc = keras.Input(spec.mfcc_shape, name="mfcc")
    frames = keras.Input(spec.frames_shape, dtype="uint8", name="frames")
    heard = embed_audio(mfcc, mfcc_mean, mfcc_variance, dropout)
    seen = embed_video(frames, dropout)
    told = [keras.ops.stop_gradient(embedding) for embedding in (heard, seen)]
    both = keras.layers.Concatenate(name="fusion")(told)
    both = keras.layers.Dense(EMBEDDING, activation="relu", name="fusion_dense")(both)
    both = keras.layers.Dropout(dropout, name="fusion_dropout")(both)
    scores = {
        name: keras.layers.Dense(len(EMOTIONS), name=f"{name}_scores")(embedding)
        for name, embedding in (("fused", both), ("audio", heard), ("video", seen))
    }
    opinions = {
        name: score if name == "fused" else keras.ops.stop_gradient(score)
        for name, score in scores.items()
    }
    # Fusion begins as the sum of both votes and learns what they miss together.
    pool = keras.layers.Add(name="votes")(
        [
            keras.layers.Rescaling((votes or {}).get(name, 1.0), name=f"{name}_vote")(opinion)
            for name, opinion in opinions.items()
        ]
    )
    scores["fused"] = weigh_presence(mfcc, frames, pool, opinions["audio"], opinions["video"])
    outputs = {name: keras.layers.Softmax(name=name)(score) for name, score in scores.items()}
    return keras.Model({"mfcc": mfcc, "frames": frames}, outputs, name="fusion_cnn")


def head_alone(network: keras.Model, head: str) -> keras.Model:
    """Return the part of a fusion network that one branch's own head needs.

    Parameters
    ----------
    network
        Of :func:`build_fusion_cnn`; weights are shared with it.
    head
        ``"audio"`` or ``"video"``.

    Returns
    -------
    keras.Model
        From the branch's input to probabilities, (batch, 8).
    """
    return keras.Model(network.input[INPUTS[head]], network.output[head], name=f"{head}_alone")


def weigh_presence(
    mfcc: keras.KerasTensor,
    frames: keras.KerasTensor,
    votes: keras.KerasTensor,
    audio: keras.KerasTensor,
    video: keras.KerasTensor,
) -> keras.KerasTensor:
    """Take the votes of both modalities where both are there, else the scores of the one that is.

    An absent modality is all zeros: no sound, or only black pictures.
    """
    heard = keras.ops.any(keras.ops.not_equal(mfcc, 0.0), axis=(1, 2, 3))
    # One line of each picture is enough to tell a picture from none, and a hundredth of the work.
    lines = frames[:, :, frames.shape[2] // 2]
    seen = keras.ops.any(keras.ops.not_equal(lines, 0), axis=(1, 2, 3))
    heard, seen = heard[:, np.newaxis], seen[:, np.newaxis]
    alone = keras.ops.where(heard, audio, video)
    both = keras.ops.equal(heard, seen)
    return keras.ops.where(both, votes, alone)


def embed_audio(
    mfcc: keras.KerasTensor,
    mean: NDArray[np.float32],
    variance: NDArray[np.float32],
    dropout: float,
) -> keras.KerasTensor:
    """Turn MFCC images into embeddings, shape (batch, EMBEDDING)."""
    # Keras 3.12 and 3.15 agree on statistics of the last axis alone.
    x = keras.layers.Permute((2, 3, 1), name="mfcc_last")(mfcc)
    x = keras.layers.Normalization(
        mean=mean, variance=np.maximum(variance, 1e-6), name="mfcc_normalization"
    )(x)
    x = keras.layers.Permute((3, 1, 2), name="mfcc_first")(x)
    # Beside the level of each coefficient, its course: what a speaker's voice is like cancels out.
    course = x - keras.ops.mean(x, axis=2, keepdims=True)
    x = keras.layers.Concatenate(name="audio_input")([x, course])
    x = keras.layers.Conv2D(
        AUDIO_FILTERS[0], 5, 2, padding="same", use_bias=False, name="audio_stem"
    )(x)
    x = normalized(x, "audio_stem")
    for stage, filters in enumerate(AUDIO_FILTERS):
        if stage:
            x = keras.layers.MaxPooling2D(2, name=f"audio_pool_{stage}")(x)
        for number in range(1 + min(stage, 1)):
            x = keras.layers.Conv2D(
                filters, 3, padding="same", use_bias=False, name=f"audio_conv_{stage}_{number}"
            )(x)
            x = normalized(x, f"audio_{stage}_{number}")
        x = keras.layers.SpatialDropout2D(dropout / 4, name=f"audio_dropout_{stage}")(x)
    x = keras.layers.Permute((2, 1, 3), name="audio_time_first")(x)
    return embedded(x, dropout, "audio")


def embed_video(frames: keras.KerasTensor, dropout: float) -> keras.KerasTensor:
    """Turn frame tensors into embeddings, shape (batch, EMBEDDING)."""
    x = keras.layers.Rescaling(1 / 255, name="frames_scaling")(frames)
    # Grey and standardised a clip: skin, hair and light tell who it is, not what is felt.
    x = keras.ops.mean(x, axis=-1, keepdims=True)
    x = keras.layers.AveragePooling3D((1, 2, 2), name="frames_pool")(x)
    # Black pictures are missing ones: they count neither as light nor as movement.
    shown = keras.ops.cast(keras.ops.any(x > 0, axis=(2, 3, 4), keepdims=True), x.dtype)
    part = keras.ops.maximum(keras.ops.mean(shown, axis=1, keepdims=True), keras.config.epsilon())
    x = (x - clip_mean(x, part)) * shown
    x = x / keras.ops.sqrt(clip_mean(keras.ops.square(x), part) + STANDARDIZATION_EPSILON)
    # What moves, beside what is there: the change of a face is more alike than faces are.
    motion = (x - keras.ops.mean(x, axis=1, keepdims=True) / part) * shown * MOTION_GAIN
    x = keras.layers.Concatenate(name="video_input")([x, motion])
    for stage, filters in enumerate(VIDEO_FILTERS):
        # Strides shrink the picture before the costly convolutions: three times cheaper than
        # pooling after them.
        size = (1, 3, 3) if stage else (1, 5, 5)
        x = keras.layers.Conv3D(
            filters, size, (1, 2, 2), padding="same", use_bias=False, name=f"video_space_{stage}"
        )(x)
        x = normalized(x, f"video_space_{stage}")
        if stage:
            x = keras.layers.Conv3D(
                filters, (3, 1, 1), padding="same", use_bias=False, name=f"video_time_{stage}"
            )(x)
            x = normalized(x, f"video_time_{stage}")
        if stage == 1:
            x = keras.layers.MaxPooling3D((2, 1, 1), name="video_pool")(x)
    return embedded(x, dropout, "video")


def clip_mean(x: keras.KerasTensor, part: keras.KerasTensor) -> keras.KerasTensor:
    """Mean of each clip over the part of its pictures that is shown; the others have to be zero."""
    return keras.ops.mean(x, axis=(1, 2, 3, 4), keepdims=True) / part


def normalized(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Batch normalisation and rectification."""
    x = keras.layers.BatchNormalization(
        momentum=BATCH_NORMALIZATION_MOMENTUM, name=f"{name}_normalization"
    )(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def embedded(x: keras.KerasTensor, dropout: float, name: str) -> keras.KerasTensor:
    """Describe each instant, pool time, project and drop out: the end of each branch.

    Parameters
    ----------
    x
        Shape (batch, time, …). Places stay apart: a mouth is not a brow, nor a low band a high one.
    dropout
        Part of the embedding dropped in training.
    name
        Of the branch.

    Returns
    -------
    keras.KerasTensor
        Shape (batch, EMBEDDING).
    """
    x = keras.layers.Reshape((x.shape[1], -1), name=f"{name}_instants")(x)
    x = keras.layers.Dropout(dropout / 2, name=f"{name}_instant_dropout")(x)
    x = keras.layers.Dense(INSTANT, use_bias=False, name=f"{name}_instant")(x)
    x = normalized(x, f"{name}_instant")
    x = keras.layers.Concatenate(name=f"{name}_summary")(
        [keras.ops.mean(x, axis=1), keras.ops.max(x, axis=1)]
    )
    x = keras.layers.Dense(EMBEDDING, use_bias=False, name=f"{name}_dense")(x)
    return keras.layers.Dropout(dropout, name=f"{name}_dropout")(normalized(x, f"{name}_dense"))
