"""Every odd file is read right, or refused in one line."""

import re

import av
import librosa
import numpy as np
import pytest
import zoo
from conftest import RATE

from infer import recording
from pipeline import audio, catalog, decode, features, video
from pipeline.errors import InputError, MediaError
from pipeline.spec import FeatureSpec

SPEC = FeatureSpec(window_seconds=1.0, variants=(), crop="whole", decode="full")
LEAST_FILES = 60


def made(case, folder):
    missing = [name for name in case.encoders if name not in av.codecs_available]
    if missing:
        pytest.skip(f"this FFmpeg has no encoder {', '.join(missing)}")
    return case.make(folder / case.file, case.take)


def refused(read, pattern, path):
    """Whether a reader refuses a file, as it should, in one line that names it."""
    if pattern is None:
        return False
    with pytest.raises(MediaError, match=pattern) as caught:
        read()
    message = str(caught.value)
    assert "\n" not in message and path.name in message and "; " in message
    return True


def check_sound(waveform, take, late_seconds):
    """The tone has its pitch, begins when it should, and the sound is as long as it is."""
    length = take.sound_start + take.seconds
    assert len(waveform) / RATE == pytest.approx(length, abs=0.12)
    assert np.isfinite(waveform).all()
    if not take.hertz:
        assert not waveform.any()
        return
    onset, end = take.sound_start + take.onset, take.sound_start + take.end
    loud = np.flatnonzero(np.abs(waveform) > 0.2)
    assert loud[0] / RATE == pytest.approx(onset, abs=late_seconds + 0.002)
    assert loud[-1] / RATE == pytest.approx(end, abs=late_seconds + 0.04)
    inner = waveform[round((onset + 0.1) * RATE) : round((end - 0.1) * RATE)]
    spectrum = np.abs(np.fft.rfft(inner * np.hanning(len(inner))))
    assert spectrum.argmax() * RATE / len(inner) == pytest.approx(take.hertz, abs=2)
    # AAC's sixth channel carries the lowest tones alone, so the mean of six loses a sixth.
    assert np.sqrt(np.mean(inner**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.2)


def check_pictures(path, take, end_known=True):
    """Each time shows the picture that is on screen then, upright and in its shape."""
    gap = np.diff(take.times).min() if len(take.times) > 1 else 0.05
    places = range(0, len(take.times), max(1, len(take.times) // 60))
    times = [take.times[place] + gap / 2 for place in places]
    outside = [-0.1, times[-1] + 5] if end_known else [-0.1]
    shown = decode.read_pictures(path, [*times, *outside])
    assert [zoo.number_in(picture) for picture in shown] == [*places, *(None for _ in outside)]
    height, width = take.size
    assert shown[0].shape[0] / shown[0].shape[1] == pytest.approx(height / width, rel=0.05)
    last = max(0, len(take.times) - 3)
    late = decode.read_consecutive_pictures(path, take.times[last] + gap / 3, 4)
    count = len(take.times) - last
    assert [zoo.number_in(picture) for picture in late] == [
        *range(last, len(take.times)),
        *[None] * (4 - count),
    ]


def check_features(path, take):
    """The cached tensors are those of the tone and of the pictures shown with it."""
    clip = catalog.Clip("a", 1, "happy", path)
    ((_, (mfcc, frames), _),) = features.extract_clip(clip, SPEC)
    start = audio.window_start(decode.read_waveform(path, RATE), SPEC) / RATE
    assert mfcc.shape == (40, 44, 1) and np.isfinite(mfcc).all()
    if take.hertz:
        onset = take.sound_start + take.onset
        assert start == pytest.approx(min(onset, take.sound_start + take.seconds - 1), abs=0.15)
        mel = librosa.feature.inverse.mfcc_to_mel(mfcc[:, 5:38, 0], n_mels=128)
        bands = librosa.mel_frequencies(130, fmax=RATE / 2)[1:-1]
        assert np.abs(bands[mel.argmax(axis=0)] / take.hertz - 1).max() < 0.15
    else:
        assert np.ptp(mfcc) == pytest.approx(abs(mfcc[0, 0, 0]))
    times = video.frame_times(start, SPEC.window_samples / RATE, SPEC.frame_count)
    near = [{take.number_at(time + step) for step in (-0.003, 0, 0.003)} for time in times]
    assert all(zoo.number_in(frame) in some for frame, some in zip(frames, near, strict=True))


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=[pytest.mark.slow] if case.slow else [])
        for case in zoo.CASES
    ],
)
def test_the_zoo(case, tmp_path):
    path = made(case, tmp_path)
    take = case.take
    heard = not refused(lambda: decode.read_waveform(path, RATE), case.sound_error, path)
    seen = not refused(lambda: decode.read_pictures(path, [0.1]), case.picture_error, path)
    if heard:
        check_sound(decode.read_waveform(path, RATE), take, case.late_seconds)
    if seen:
        check_pictures(path, take, case.end_known)
    if heard and seen:
        check_features(path, take)
    else:
        pattern = case.sound_error or case.picture_error
        clip = catalog.Clip("a", 1, "happy", path)
        refused(lambda: features.extract_clip(clip, SPEC), pattern, path)
