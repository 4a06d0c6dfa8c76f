"""A raw file as inference sees it: what it holds, and the windows that cover it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.features import extract, mfcc
from pipeline.features.extract import Span
from pipeline.media import audio, container
from pipeline.spec import FeatureSpec


@dataclass(frozen=True)
class Recording:
    """A raw file, or a video with a sound file of its own.

    Parameters
    ----------
    path
        The file as named by the user.
    video
        Where the pictures come from; None without any.
    sound
        Where the sound comes from; None without any.
    waveform
        float32 (samples,) at the spec's rate; None without sound.
    duration_seconds
        Length of the longer of the two.
    frame_rate
        Average pictures per second; 0 without any.
    width_px
        Width of the pictures; 0 without any.
    """

    path: Path
    video: Path | None
    sound: Path | None
    waveform: NDArray[np.float32] | None
    duration_seconds: float
    frame_rate: float
    width_px: int


def open_recording(path: Path, sound: Path | None, spec: FeatureSpec) -> Recording:
    """Find out what there is to see and hear, and decode the sound.

    Raises
    ------
    InputError
        If a file does not exist, cannot be read, or holds neither sound nor video.
    """
    media = container.probe(path)
    if sound is None and media.has_audio:
        sound = path
    if sound is None and not media.has_video:
        raise InputError(f"expected sound or video in {path}, got neither; give another file")
    waveform = (
        None if sound is None else (audio.read_waveform(sound, spec.sample_rate_hz, spec.resampler))
    )
    heard_seconds = 0.0 if waveform is None else len(waveform) / spec.sample_rate_hz
    return Recording(
        path,
        path if media.has_video else None,
        sound,
        waveform,
        max(heard_seconds, media.shown_seconds),
        media.frame_rate,
        media.width_px,
    )


def plan_windows(recording: Recording, spec: FeatureSpec) -> list[tuple[Span, float]]:
    """Cover a recording with windows that overlap by half.

    One of them is the very window that training would cut from this recording; the others are laid
    out from it in both directions, the outermost moved inwards to the recording's ends.

    Returns
    -------
    list of (Span, float)
        Each window with the part of it that is voice (1 for a recording without sound).
    """
    total = round(recording.duration_seconds * spec.sample_rate_hz)
    latest = max(0, total - spec.window_samples)
    waveform = recording.waveform
    first = extract.clip_span(waveform, spec, recording.duration_seconds).start
    if waveform is None or mfcc.is_silent(waveform, spec):
        voiced = None
    else:
        voiced = librosa.effects.split(waveform, top_db=spec.voice_threshold_db)
    step = spec.window_samples // 2
    before, after = -(-first // step), -(-max(0, latest - first) // step)
    starts = sorted(
        {
            min(max(0, first + number * step), max(latest, first))
            for number in range(-before, after + 1)
        }
    )
    return [(Span(start, spec.window_samples), voice_part(start, voiced, spec)) for start in starts]


def plan_rest(recording: Recording, spec: FeatureSpec, most: int) -> list[Span]:
    """Choose the windows that tell how a person is at rest.

    Returns
    -------
    list of Span
        The one that training would cut from the recording, and those end to end with it that hold
        at least half as much voice. Of more than ``most``, some that are spread evenly.
    """
    first = extract.clip_span(recording.waveform, spec, recording.duration_seconds)
    planned = plan_windows(recording, spec)
    least = dict(planned).get(first, 1.0) / 2
    others = [
        span
        for span, part in planned
        if (span.start - first.start) % spec.window_samples == 0 and part >= least
    ]
    spans = sorted({first, *others})
    spread = np.linspace(0, len(spans) - 1, min(len(spans), most)).round().astype(int)
    return [spans[number] for number in spread]


def voice_part(start: int, voiced: NDArray[np.int64] | None, spec: FeatureSpec) -> float:
    """Part of a window that lies in the voiced stretches of a recording."""
    if voiced is None:
        return 1.0
    end = start + spec.window_samples
    shared = np.minimum(voiced[:, 1], end) - np.maximum(voiced[:, 0], start)
    return float(np.maximum(0, shared).sum() / spec.window_samples)
