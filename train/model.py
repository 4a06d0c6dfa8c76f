"""The fusion network: four readers hear, a 3D CNN sees, a dense layer decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from numpy.typing import NDArray

from pipeline.spec import EMOTIONS, FeatureSpec
from train import audio_branch, video_branch
from train.heads import HEADS, INPUTS, LESSONS, READERS
from train.layers import EMBEDDING, fuse_normalization


def build_fusion_cnn(
    spec: FeatureSpec,
    mfcc_mean: NDArray[np.float32],
    mfcc_variance: NDArray[np.float32],
    dropout: float = 0.4,
    votes: Mapping[str, float] | None = None,
    frequencies: NDArray[np.float64] | None = None,
    calibrated: bool = False,
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
    frequencies
        Share of each emotion in training, shape (8,): answers are divided by it, not at all by
        default and in training. See :func:`train.confidence.balance`.
    calibrated
        Whether rows come as :func:`train.rest.relate` makes them.

    Returns
    -------
    keras.Model
        Inputs ``mfcc`` (batch, mfcc_count, mfcc_columns, 1) float32 and ``frames``
        (batch, frame_count, size, size, 3) uint8; outputs ``fused``, ``audio`` and ``video``, each
        (batch, 8): probabilities from both modalities, from the voice's own head and from the
        face's own head.

    Notes
    -----
    Each branch learns from its own head alone and fusion from what they say: a network trained as
    one follows the modality that it memorises first, here the face, and leaves the voice half
    learned, see Wang, Tran & Feiszli 2020, "What makes training multi-modal classification networks
    hard?". So do the readers of the voice, whose mean is its head; :func:`lessons` has their own
    answers.
    """
    mfcc = keras.Input(spec.mfcc_shape, name="mfcc")
    frames = keras.Input(spec.frames_shape, dtype="uint8", name="frames")
    heard = audio_branch.embed(mfcc, mfcc_mean, mfcc_variance, dropout)
    seen = video_branch.embed(frames, dropout, calibrated)
    told = [keras.ops.stop_gradient(embedding) for embedding in (*heard.values(), seen)]
    both = keras.layers.Concatenate(name="fusion")(told)
    both = keras.layers.Dense(EMBEDDING, activation="relu", name="fusion_dense")(both)
    both = keras.layers.Dropout(dropout, name="fusion_dropout")(both)
    read = [scored(heard[reader], reader_scores(reader)) for reader in READERS]
    scores = {
        "fused": scored(both, "fused_scores"),
        "audio": keras.layers.Average(name="audio_scores")(
            [keras.ops.stop_gradient(opinion) for opinion in read]
        ),
        "video": scored(seen, "video_scores"),
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
    if frequencies is not None:
        offset = (-np.log(frequencies)).tolist()
        scores = {
            name: keras.layers.Rescaling(1.0, offset, name=f"{name}_balance")(score)
            for name, score in scores.items()
        }
    outputs = {name: probabilities(score, name) for name, score in scores.items()}
    return keras.Model({"mfcc": mfcc, "frames": frames}, outputs, name="fusion_cnn")


def scored(embedding: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Score each emotion, shape (batch, 8)."""
    return keras.layers.Dense(len(EMOTIONS), name=name)(embedding)


def probabilities(scores: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Turn scores into probabilities; always in float32, whose logarithm a loss can take."""
    return keras.layers.Softmax(dtype="float32", name=name)(scores)


def reader_scores(reader: str) -> str:
    """Name of the layer that holds the scores of one reader of the voice."""
    return f"audio_{reader}_scores"


def lessons(network: keras.Model, heads: Sequence[str] = HEADS) -> keras.Model:
    """Return the network with every output that is learned from, or the part that some heads need.

    Parameters
    ----------
    network
        Of :func:`build_fusion_cnn`; weights are shared with it.
    heads
        Which heads.

    Returns
    -------
    keras.Model
        From the inputs of these heads, by name, to their probabilities and those of whatever they
        are the mean of, each (batch, 8), named as in ``train.heads.LESSONS``.
    """
    outputs = {head: network.output[head] for head in heads}
    if "audio" in heads:
        outputs |= {
            name: probabilities(network.get_layer(reader_scores(reader)).output, name)
            for name, reader in zip(LESSONS["audio"][1:], READERS, strict=True)
        }
    given = set(INPUTS.values()) if "fused" in heads else {INPUTS[head] for head in heads}
    inputs = {name: tensor for name, tensor in network.input.items() if name in given}
    taught = keras.Model(inputs, outputs, name="lessons")
    fuse_normalization(taught)
    return taught


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
