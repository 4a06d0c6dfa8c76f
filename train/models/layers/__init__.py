"""Layers of the branches and of their fusion, registered so that a saved model finds them."""

from train.models.layers.decision import (
    LACKING,
    LogitAdjustment,
    LogLinearPool,
    MahalanobisDistance,
    Presence,
    Temperature,
)
from train.models.layers.frames import (
    ClipStandardization,
    FillMissingFrames,
    GreyDownscale,
    OrientedGradients,
)
from train.models.layers.mfcc import MEL_BANDS, ColumnMean, MelBands, cosine_transform
from train.models.layers.shared import (
    EMBEDDING,
    LevelAndChange,
    class_logits,
    folded,
    normalized,
    summarize,
    unfolded,
)

__all__ = [
    "EMBEDDING",
    "LACKING",
    "MEL_BANDS",
    "ClipStandardization",
    "ColumnMean",
    "FillMissingFrames",
    "GreyDownscale",
    "LevelAndChange",
    "LogLinearPool",
    "LogitAdjustment",
    "MahalanobisDistance",
    "MelBands",
    "OrientedGradients",
    "Presence",
    "Temperature",
    "class_logits",
    "cosine_transform",
    "folded",
    "normalized",
    "summarize",
    "unfolded",
]
