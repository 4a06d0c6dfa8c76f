"""What a training may be started with, and what is refused in one line."""

import dataclasses
import json

import numpy as np
import pytest
from test_cli import assert_one_line, command

from pipeline.errors import InputError
from train import __main__
from train.settings import EPOCHS, Settings, scaled

OPTIONS = ("audio_epochs", "batch_size", "learning_rate", "patience", "plateau_patience", "seed")


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("seed", -1, "seed of 0 to 2147483647, got -1"),
        ("seed", 9_999_999_999, "seed of 0 to 2147483647, got 9999999999"),
        ("learning_rate", 0.0, "learning rate above 0, got 0.0"),
        ("learning_rate", -1.0, "learning rate above 0, got -1.0"),
        ("learning_rate", np.nan, "learning rate above 0, got nan"),
        ("learning_rate", np.inf, "learning rate above 0, got inf"),
        ("dropout", 1.0, "dropout of at least 0 and below 1, got 1.0"),
        ("dropout", -0.1, "dropout of at least 0 and below 1, got -0.1"),
        ("weight_decay", -1e-9, "weight decay of at least 0, got -1e-09"),
        ("batch_size", 0, "batch size of at least 1, got 0"),
        ("audio_epochs", 0, "audio epochs of at least 1, got 0"),
        ("refit_epochs", -1, "refit epochs of at least 0, got -1"),
        ("patience", 0, "patience of at least 1, got 0"),
        ("plateau_patience", 0, "plateau patience of at least 1, got 0"),
        ("clip_norm", 0.0, "clip norm above 0, got 0.0"),
        ("warmup_epochs", -1.0, "warmup epochs of at least 0, got -1.0"),
        ("precision", "half", "precision out of float32, mixed_float16, mixed_bfloat16, got half"),
        ("speaker_reference", "all", "speaker reference out of none, neutral, recording, got all"),
        (
            "modalities",
            ("text",),
            "modalities one or more out of audio, video, each once, got text",
        ),
        ("modalities", (), "modalities one or more out of audio, video, each once, got "),
        (
            "modalities",
            ("audio",) * 2,
            "modalities one or more out of audio, video, each once, got audio, audio",
        ),
        ("without", ("masks",), "without out of vocal_tract, speaker, view, got masks"),
    ],
)
def test_what_is_out_of_bounds_is_refused(name, wrong, said):
    with pytest.raises(InputError) as caught:
        Settings(**{name: wrong})
    message = str(caught.value)
    assert message.startswith(f"expected {said}; choose another, such as ")
    assert "\n" not in message
    if name in OPTIONS:
        words = ["fit", f"--{name.replace('_', '-')}={wrong}", "--cache", "nowhere"]
        arguments = __main__.parser().parse_args(words)
        with pytest.raises(InputError) as caught:
            arguments.run(arguments)
        assert str(caught.value) == message


@pytest.mark.parametrize(
    "words",
    [
        ("fit", "--seed", "-1"),
        ("crossval", "--seed", "-1"),
        ("study", "leak", "--seeds", "0", "-1"),
        ("study", "ablation", "--seeds", "0", "-1"),
        ("study", "choices", "--seeds", "0", "-1"),
    ],
)
def test_a_wrong_seed_is_refused_by_every_command_that_trains(words, small_cache):
    arguments = __main__.parser().parse_args([*words, "--cache", str(small_cache.folder)])
    with pytest.raises(InputError, match="seed of 0 to 2147483647, got -1;"):
        arguments.run(arguments)


def test_a_refusal_is_one_line_of_the_command():
    answer = command("train", "fit", "--learning-rate", "-1")
    assert_one_line(answer, "learning rate above 0, got -1.0", "choose another")
    assert_one_line(command("train", "fit", "--epochs-scale", "0"), "scale of the epochs above 0")


@pytest.mark.parametrize("factor", [0, -1, np.nan, np.inf])
def test_a_scale_of_the_epochs_is_above_zero(factor):
    with pytest.raises(InputError, match="scale of the epochs above 0, got"):
        scaled(Settings(), factor)


def test_a_scale_multiplies_all_epochs_and_leaves_one_of_each():
    settings = Settings(
        audio_epochs=40, video_epochs=12, fusion_epochs=2, refit_epochs=6, seed=5, patience=3
    )
    half = scaled(settings, 0.5)
    assert [getattr(half, name) for name in EPOCHS] == [20, 6, 1, 3]
    assert dataclasses.replace(half, **{name: getattr(settings, name) for name in EPOCHS}) == (
        settings
    )
    assert [getattr(scaled(settings, 0.01), name) for name in EPOCHS] == [1] * 4
    assert [getattr(scaled(settings, 2), name) for name in EPOCHS] == [80, 24, 4, 12]
    # Nothing stays nothing.
    assert scaled(dataclasses.replace(settings, refit_epochs=0), 2).refit_epochs == 0


def test_settings_come_back_from_json_as_they_were():
    settings = Settings(modalities=("audio",), without=("view", "speaker"), seed=7)
    assert Settings(**json.loads(json.dumps(dataclasses.asdict(settings)))) == settings


def test_a_stage_can_stop_early_with_the_default_settings():
    settings = Settings()
    for branch in ("audio", "video"):
        assert settings.plateau_patience < settings.patience < settings.epochs_of(branch)
