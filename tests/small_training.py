"""Branches that train within seconds, with everything random that those of the trainer have."""

import keras
import pytest

from train import fit
from train.models import augmentation, fusion, layers
from train.settings import Settings
from train.studies.protocol import Split

SPLIT = Split((1, 2), (3,), (4,))
SETTINGS = Settings(
    audio_epochs=3,
    video_epochs=3,
    fusion_epochs=3,
    refit_epochs=3,
    batch_size=6,
    learning_rate=1e-2,
    seed=3,
)
STAGES = ("audio", "video", "fusion", "refit-audio", "refit-video", "refit-fusion")


def build_audio(spec, statistics, settings):
    mfcc = keras.Input(spec.mfcc_shape, name="mfcc")
    x = augmentation.SpeakerPerturbation([1.0] * spec.mfcc_count, dtype="float32", name="speaker")(
        mfcc
    )
    return branch({"mfcc": mfcc}, keras.ops.mean(x, axis=(2, 3)), settings, "audio")


def build_video(spec, statistics, settings):
    frames = keras.Input(spec.frames_shape, dtype="uint8", name="frames")
    x = layers.GreyDownscale(dtype="float32", name="grey")(frames)
    x = augmentation.RandomView(dtype="float32", name="view")(x)
    x = keras.layers.Flatten(name="flat")(keras.ops.mean(x, axis=(1, 4)))
    return branch({"frames": frames}, x, settings, "video")


def branch(inputs, features, settings, name):
    x = keras.layers.Dense(12, use_bias=False, name=f"{name}_dense")(features)
    x = layers.normalized(x, f"{name}_dense")
    embedding = keras.layers.Dropout(settings.dropout, name=f"{name}_dropout")(x)
    logits = layers.class_logits(embedding, f"{name}_logits")
    return keras.Model(inputs, {"embedding": embedding, "logits": logits}, name=f"{name}_branch")


BUILDERS = {"audio": build_audio, "video": build_video}


def train(index, folder, settings=SETTINGS, split=SPLIT, **options):
    """Train the small branches, as a command does: with a seeded process."""
    keras.utils.set_random_seed(settings.seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fusion, "BUILDERS", BUILDERS)
        return fit.fit(index, folder, split, settings, **{"progress": False, **options})
