"""How training MFCCs are changed on the fly: as other speakers sound, with parts missing."""

from __future__ import annotations

import tensorflow as tf

TIME_MASK_COLUMNS = 14
FREQUENCY_MASK_COEFFICIENTS = 10
TIME_SHIFT_COLUMNS = 4

VOICE_OFFSET = 0.7
"""Of a made-up speaker, in standard deviations of the training speakers' own levels."""

VOICE_SCALE = 0.2
"""Standard deviation of the logarithm of how lively a made-up speaker's coefficients are."""

TEMPO = 0.12
"""Largest change of the logarithm of the tempo."""


def change_voice(mfcc: tf.Tensor, deviation: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Give each MFCC image of a batch the voice of a speaker who does not exist.

    A voice is first of all a constant level of each coefficient, and how far it moves from there:
    with a dozen speakers to learn from, a network knows them by it.

    Parameters
    ----------
    mfcc
        Shape (batch, mfcc_count, mfcc_columns, 1).
    deviation
        Shape (1, mfcc_count, 1, 1): standard deviation of the speakers' mean coefficients.
    seed
        Two numbers that fix every choice.

    Returns
    -------
    tensor
        Same shape.
    """
    shape = [2, tf.shape(mfcc)[0], mfcc.shape[1], 1, 1]
    offset, scale = tf.unstack(tf.random.stateless_normal(shape, seed + 4))
    level = tf.reduce_mean(mfcc, axis=2, keepdims=True)
    lively = (mfcc - level) * tf.exp(VOICE_SCALE * scale)
    return lively + level + VOICE_OFFSET * deviation * offset


def change_tract(mfcc: tf.Tensor, maps: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Give each MFCC image of a batch another length of the vocal tract.

    Parameters
    ----------
    mfcc
        Shape (batch, mfcc_count, mfcc_columns, 1).
    maps
        To choose from, of :func:`train.cepstrum.tract_maps`.
    seed
        Two numbers that fix every choice.

    Returns
    -------
    tensor
        Same shape.
    """
    chosen = tf.random.stateless_uniform([tf.shape(mfcc)[0]], seed + 6, 0, len(maps), tf.int32)
    return tf.einsum("nctx,nck->nktx", mfcc, tf.gather(maps, chosen))


def change_tempo(mfcc: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Stretch each MFCC image of a batch about its middle; its outermost columns repeat."""
    columns = mfcc.shape[2]
    draws = tf.random.stateless_uniform([tf.shape(mfcc)[0], 1], seed + 5, -TEMPO, TEMPO)
    middle = (columns - 1) / 2
    source = middle + (tf.range(columns, dtype=tf.float32) - middle) * tf.exp(draws)
    source = tf.clip_by_value(source, 0.0, columns - 1.0)
    before = tf.floor(source)
    part = (source - before)[:, tf.newaxis, :, tf.newaxis]
    before = tf.cast(before, tf.int32)
    earlier = tf.gather(mfcc, before, axis=2, batch_dims=1)
    later = tf.gather(mfcc, tf.minimum(before + 1, columns - 1), axis=2, batch_dims=1)
    return (1 - part) * earlier + part * later


def shift_mfcc(mfcc: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Move each MFCC image of a batch in time; what leaves at one end enters at the other."""
    columns = mfcc.shape[2]
    shift = tf.random.stateless_uniform(
        [tf.shape(mfcc)[0], 1], seed, -TIME_SHIFT_COLUMNS, TIME_SHIFT_COLUMNS + 1, tf.int32
    )
    source = tf.math.floormod(tf.range(columns) + shift, columns)
    return tf.gather(mfcc, source, axis=2, batch_dims=1)


def mask_mfcc(mfcc: tf.Tensor, mean: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Set a stretch of columns and a band of coefficients of each MFCC image to the mean.

    Notes
    -----
    Park et al. 2019, "SpecAugment: A simple data augmentation method for automatic speech
    recognition", without the time warp.
    """
    for axis, widest, offset in ((2, TIME_MASK_COLUMNS, 2), (1, FREQUENCY_MASK_COEFFICIENTS, 3)):
        length = mfcc.shape[axis]
        draws = tf.random.stateless_uniform([2, tf.shape(mfcc)[0], 1, 1, 1], seed + offset)
        width = draws[0] * (widest + 1)
        start = draws[1] * (tf.cast(length, tf.float32) - width)
        place = tf.reshape(
            tf.range(length, dtype=tf.float32), [-1 if number == axis else 1 for number in range(4)]
        )
        mfcc = tf.where(
            (place >= tf.floor(start)) & (place < tf.floor(start) + tf.floor(width)), mean, mfcc
        )
    return mfcc
