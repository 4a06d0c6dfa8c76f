"""The audio branch: 2D CNNs and recurrent networks on the MFCCs, averaged.

With a dozen speakers to learn from, a network takes traits of a speaker for the emotion. Unlike
networks make unlike mistakes, and the mean of their logits is right more often than any of them.
They differ in kind, and in what they read: the coefficients, or the mel bands behind them.
"""

from __future__ import annotations

import keras
import numpy as np

from pipeline.spec import FeatureSpec
from train.data.statistics import MfccStatistics
from train.models import augmentation, layers
from train.settings import Settings

CNN_FILTERS = (24, 40, 80)
GRU_FILTERS = 96
GRU_UNITS = 64
"""In each direction of time."""


def build(spec: FeatureSpec, statistics: MfccStatistics, settings: Settings) -> keras.Model:
    """Build the audio branch.

    Parameters
    ----------
    spec
        Gives the input shape and the mel scale.
    statistics
        Of clean training rows.
    settings
        Gives ``dropout``, ``without`` and ``speaker_reference``.

    Returns
    -------
    keras.Model
        Input ``mfcc`` float32 (batch, mfcc_count, mfcc_columns, 1), and ``mfcc_reference`` (batch,
        mfcc_count) where there is a speaker reference. Outputs ``embedding`` (batch, 256),
        ``logits`` (batch, 8), the mean of the four encoders' own, and these as auxiliary outputs,
        ``cepstrum_cnn_logits`` and so on, each of which is trained by itself. With a speaker
        reference also ``average`` (batch, mfcc_count), what references are means of.
    """
    mfcc = keras.Input(spec.mfcc_shape, name="mfcc")
    inputs = {"mfcc": mfcc}
    x = mfcc
    if "vocal_tract" not in settings.without:
        x = augmentation.VocalTractPerturbation(
            spec.fmax_hz, spec.mel_scale == "htk", dtype="float32", name="vocal_tract"
        )(x)
    # A random level would hide what the reference tells.
    if "speaker" not in settings.without and settings.speaker_reference == "none":
        x = augmentation.SpeakerPerturbation(
            statistics.speaker_deviation.tolist(), dtype="float32", name="speaker"
        )(x)
    variance = np.maximum(statistics.variance, 1e-6)
    scale = 1 / np.sqrt(variance)
    # Coefficients reach hundreds, where float16 has steps of a quarter: rounded once standardised.
    standardize = keras.layers.Rescaling(
        scale.tolist(), (-statistics.mean * scale).tolist(), dtype="float32", name="standardization"
    )
    mel_bands = layers.MelBands(
        statistics.mean.tolist(), variance.tolist(), dtype="float32", name="mel_bands"
    )
    # (batch, time, 1, coefficients).
    columns = keras.layers.Permute((2, 3, 1), dtype="float32", name="coefficients_last")(x)
    references: dict[str, keras.KerasTensor] = {}
    average = {}
    views = {"cepstrum": standardize, "bands": mel_bands}
    if settings.speaker_reference != "none":
        inputs["mfcc_reference"] = keras.Input((spec.mfcc_count,), name="mfcc_reference")
        given = keras.ops.expand_dims(inputs["mfcc_reference"], 1)
        references = {name: view(given) for name, view in views.items()}
        average = {"average": layers.ColumnMean(name="average")(mfcc)}
    embeddings = {}
    for name, view in views.items():
        # (batch, time, coefficients or bands, 1)
        image = keras.layers.Permute((1, 3, 2), name=f"{name}_image")(view(columns))
        reference = [keras.ops.transpose(references[name], (0, 2, 1))] if references else []
        image = layers.LevelAndChange(name=f"{name}_level_and_change")(image, *reference)
        for kind, encode in (("cnn", convolve), ("gru", recur)):
            encoder = f"{name}_{kind}"
            x = encode(image, settings.dropout, encoder)
            embeddings[encoder] = layers.summarize(x, settings.dropout, encoder)
    logits = {name: layers.class_logits(x, f"{name}_logits") for name, x in embeddings.items()}
    # Each encoder learns from its own answer alone: trained through the mean, they grow alike.
    mean = keras.layers.Average(dtype="float32", name="logits")(
        [keras.ops.stop_gradient(values) for values in logits.values()]
    )
    outputs = {
        "embedding": keras.layers.Concatenate(name="embedding")(list(embeddings.values())),
        "logits": mean,
        **{f"{name}_logits": values for name, values in logits.items()},
        **average,
    }
    return keras.Model(inputs, outputs, name="audio_branch")


def convolve(image: keras.KerasTensor, dropout: float, name: str) -> keras.KerasTensor:
    """Convolve over columns and coefficients or bands: the 2D CNN.

    Parameters
    ----------
    image
        Shape (batch, time, height, 2).
    dropout
        A quarter of it is the rate of dropped feature maps after each stage.
    name
        What the layers' names begin with.

    Returns
    -------
    keras.KerasTensor
        Shape (batch, time / 8, height / 8, 80).
    """
    x = keras.layers.Conv2D(
        CNN_FILTERS[0], 5, 2, padding="same", use_bias=False, name=f"{name}_stem"
    )(image)
    x = layers.normalized(x, f"{name}_stem")
    for stage, filters in enumerate(CNN_FILTERS):
        if stage:
            x = keras.layers.MaxPooling2D(2, name=f"{name}_pool_{stage}")(x)
        for number in range(1 + min(stage, 1)):
            layer = f"{name}_{stage}_{number}"
            x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False, name=layer)(x)
            x = layers.normalized(x, layer)
        x = keras.layers.SpatialDropout2D(dropout / 4, name=f"{name}_dropout_{stage}")(x)
    return x


def recur(image: keras.KerasTensor, dropout: float, name: str) -> keras.KerasTensor:
    """Read the columns forwards and backwards: the recurrent network.

    Parameters
    ----------
    image, dropout, name
        See :func:`convolve`.

    Returns
    -------
    keras.KerasTensor
        Shape (batch, time / 2, 2 * GRU_UNITS).

    Notes
    -----
    The gated recurrent unit of Cho et al. 2014, "Learning phrase representations using RNN
    encoder-decoder for statistical machine translation".
    """
    x = keras.layers.Reshape((image.shape[1], -1), name=f"{name}_columns")(image)
    x = keras.layers.Conv1D(GRU_FILTERS, 5, 2, padding="same", use_bias=False, name=f"{name}_stem")(
        x
    )
    x = layers.normalized(x, f"{name}_stem")
    x = keras.layers.SpatialDropout1D(dropout / 4, name=f"{name}_dropout")(x)
    gru = keras.layers.GRU(GRU_UNITS, return_sequences=True, name=f"{name}_forwards")
    return keras.layers.Bidirectional(gru, name=name)(x)
