"""A raw file as inference sees it: what it holds, and the windows that cover it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.features import extract, mfcc
from pipeline.features.extract import Span
from pipeline.media import audio, container, video
from pipeline.media.container import Damage
from pipeline.spec import FeatureSpec

HELD_SECONDS = 120.0
"""Up to this length the sound is decoded as a whole, and the windows are laid out from the one that
training would cut. Of longer recordings only what the next windows need is held."""


class Sound:
    """A waveform that is read forwards, and forgotten behind.

    Parameters
    ----------
    blocks
        Float32 (samples,) each, of any length; consumed as they are needed.
    spec
        Gives rate and loudness.
    """

    def __init__(self, blocks: Iterator[NDArray[np.float32]], spec: FeatureSpec) -> None:
        self._blocks, self._spec = blocks, spec
        self._held = np.zeros(0, np.float32)
        self._first = 0
        self._loudest = 0.0
        self.ended = False

    @property
    def samples(self) -> int:
        """How much was read."""
        return self._first + len(self._held)

    def read_until(self, sample: int) -> None:
        """Read until that many samples were read, or to the end."""
        parts, samples = [self._held], self.samples
        while samples < sample and not self.ended:
            block = next(self._blocks, None)
            if block is None:
                self.ended = True
            else:
                parts.append(block)
                samples += len(block)
        if len(parts) > 1:
            self._held = np.concatenate(parts)

    def whole(self) -> NDArray[np.float32]:
        """Return all that was read and not forgotten."""
        return self._held

    def cut(self, span: Span) -> NDArray[np.float32]:
        """Return a stretch, and forget what lies before it.

        What lies outside of the recording is left away, as :func:`pipeline.features.mfcc.cut` does.
        """
        self.read_until(span.start + span.samples)
        passed = min(max(0, span.start - self._first), len(self._held))
        self._held, self._first = self._held[passed:], self._first + passed
        return mfcc.cut(self._held, span.start - self._first, span.samples)

    def voice_part(self, waveform: NDArray[np.float32]) -> float:
        """Part of a stretch that is voice, in [0, 1].

        Voice is what lies at most ``voice_threshold_db`` below the loudest frame up to now.
        """
        if mfcc.is_silent(waveform, self._spec):
            return 0.0
        level = mfcc.loudness(waveform, self._spec)
        self._loudest = max(self._loudest, float(level.max()))
        least = self._loudest * 10 ** (-self._spec.voice_threshold_db / 20)
        return float((level > least).mean()) * min(1.0, len(waveform) / self._spec.window_samples)

    def hear_loudest(self) -> None:
        """Let :meth:`voice_part` know the loudest frame of all that is held."""
        if not mfcc.is_silent(self._held, self._spec):
            self._loudest = float(mfcc.loudness(self._held, self._spec).max())


@dataclass(frozen=True)
class Recording:
    """A raw file, or a video with a sound file of its own.

    Parameters
    ----------
    path
        The file as named by the user.
    video
        Where the frames come from; None without any.
    sound
        Where the sound comes from; None without any.
    waveform
        What is heard, at the spec's rate; None without sound.
    duration_seconds
        Length of the longer of the two.
    frame_rate
        Average frames per second; 0 without any.
    width_px, height_px
        Size of the frames, upright; 0 without any.
    damage
        What is wrong with its files, as it is read.
    """

    path: Path
    video: Path | None
    sound: Path | None
    waveform: Sound | None
    duration_seconds: float
    frame_rate: float
    width_px: int
    height_px: int
    damage: Damage = field(default_factory=Damage)


def open_recording(path: Path, sound: Path | None, spec: FeatureSpec) -> Recording:
    """Find out what there is to see and hear.

    Parameters
    ----------
    path
        Any file FFmpeg can open.
    sound
        A file with its sound; None takes the file's own track, if it has one.
    spec
        Gives the rate of the sound.

    Raises
    ------
    InputError
        If a file does not exist, cannot be read, or holds neither sound nor video.
    """
    media, damage = container.probe(path), Damage()
    if sound is None and media.has_audio:
        sound = path
    if sound is None and not media.has_video:
        raise InputError(f"expected sound or video in {path}, got neither; give another file")
    waveform = None if sound is None else open_sound(sound, spec, damage)
    seconds = media.shown_seconds
    if media.has_video and not seconds:
        # Such as what a browser records.
        times = video.presentation_times(path)
        seconds = float(times[-1] - times[0]) if times.size else 0.0
    if waveform is not None and waveform.ended:
        seconds = max(seconds, waveform.samples / spec.sample_rate_hz)
    elif sound is not None:
        seconds = max(
            seconds, container.probe(sound).duration_seconds or counted(sound, spec, damage)
        )
    return Recording(
        path,
        path if media.has_video else None,
        sound,
        waveform,
        seconds,
        media.frame_rate,
        media.width_px,
        media.height_px,
        damage,
    )


def open_sound(path: Path, spec: FeatureSpec, damage: Damage) -> Sound:
    """Open the sound of a file, and read as much of it as is held.

    Raises
    ------
    InputError
        If there is no usable sound.
    """
    blocks = audio.waveform_blocks(path, spec.sample_rate_hz, spec.resampler, damage)
    sound = Sound(blocks, spec)
    sound.read_until(round(HELD_SECONDS * spec.sample_rate_hz) + 1)
    if not sound.samples:
        # Raises, with the reason.
        audio.read_waveform(path, spec.sample_rate_hz, spec.resampler)
    sound.hear_loudest()
    return sound


def counted(path: Path, spec: FeatureSpec, damage: Damage) -> float:
    """Length of a file's sound in seconds, by decoding all of it."""
    blocks = audio.waveform_blocks(path, spec.sample_rate_hz, spec.resampler, damage)
    return sum(map(len, blocks)) / spec.sample_rate_hz


def of_arrays(waveform: NDArray[np.float32] | None, spec: FeatureSpec) -> Sound | None:
    """Wrap a waveform at the spec's rate, shape (samples,)."""
    if waveform is None:
        return None
    sound = Sound(chain((waveform,)), spec)
    sound.read_until(len(waveform) + 1)
    sound.hear_loudest()
    return sound


def plan_windows(recording: Recording, spec: FeatureSpec) -> list[Span]:
    """Cover a recording with windows that overlap by half.

    Of a recording whose sound is held, one of them is the very window that training would cut from
    it; of others the first begins with the recording. The rest are laid out from there in both
    directions, the outermost moved inwards to the recording's ends.
    """
    total = round(recording.duration_seconds * spec.sample_rate_hz)
    latest = max(0, total - spec.window_samples)
    sound = recording.waveform
    held = recording.duration_seconds <= HELD_SECONDS if sound is None else sound.ended
    first = 0
    if held:
        waveform = None if sound is None else sound.whole()
        first = extract.clip_span(waveform, spec, recording.duration_seconds).start
    step = spec.window_samples // 2
    before, after = -(-first // step), -(-max(0, latest - first) // step)
    starts = {
        min(max(0, first + number * step), max(latest, first))
        for number in range(-before, after + 1)
    }
    return [Span(start, spec.window_samples) for start in sorted(starts)]
