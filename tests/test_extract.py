"""Clips of audio, of video, or of both to rows; the same features as inference computes."""

import dataclasses

import numpy as np
import pytest
import zoo
from conftest import RATE, tone, write_video, write_wav

from infer.reading import recording
from pipeline.corpora.clip import Clip
from pipeline.errors import MediaError
from pipeline.features import augment, extract, mfcc
from pipeline.features.augment import Change
from pipeline.media import audio, encode
from pipeline.spec import FeatureSpec, variant_names

SPEC = FeatureSpec(window_seconds=1.0, crop="whole", variants=variant_names(3))


def silent_video(folder):
    return {"video": write_video(folder / "a.mp4", 3.0)}


def silent_track(folder):
    return {"video": write_video(folder / "a.mp4", 3.0, sound=np.zeros(RATE, np.float32))}


def video_with_audio(folder):
    return {"video": write_video(folder / "a.mp4", 3.0, sound=voice(3.0, 1.2))}


def video_with_wav(folder):
    return {
        "video": write_video(folder / "a.mp4", 3.0),
        "audio": write_wav(folder / "a.wav", voice(3.0, 0.2)),
    }


def wav_alone(folder):
    return {"video": None, "audio": write_wav(folder / "a.wav", voice(3.0, 1.2))}


def silent_wav(folder):
    return {"video": None, "audio": write_wav(folder / "a.wav", np.zeros(3 * RATE))}


def audio_named_as_video(folder):
    return {"video": zoo.write(folder / "a.mp4", zoo.SOUND)}


def video_without_frames_and_wav(folder):
    return audio_named_as_video(folder) | {"audio": write_wav(folder / "b.wav", voice(3.0, 1.2))}


def voice(seconds, onset):
    waveform = np.zeros(round(seconds * RATE), np.float32)
    start = round(onset * RATE)
    waveform[start : start + RATE // 2] = tone(0.5)
    return waveform


KINDS = {
    silent_video: (False, True),
    silent_track: (True, True),
    video_with_audio: (True, True),
    video_with_wav: (True, True),
    wav_alone: (True, False),
    silent_wav: (True, False),
    audio_named_as_video: (True, False),
    video_without_frames_and_wav: (True, False),
}


def clip_of(kind, folder):
    return Clip("a", 1, "happy", **kind(folder))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_missing_modality_gives_zeros_and_a_row_that_says_so(kind, tmp_path):
    rows = extract.extract_clip(clip_of(kind, tmp_path), SPEC)
    assert [row.variant for row in rows] == ["clean", "pitch", "stretch", "noise"]
    for row in rows:
        assert (row.has_audio, row.has_video) == KINDS[kind]
        assert row.features.mfcc.shape == SPEC.mfcc_shape
        assert row.features.frames.shape == SPEC.frames_shape
        assert np.isfinite(row.features.mfcc).all()
        assert row.features.frames.any() == row.has_video
        assert row.has_audio or not row.features.mfcc.any()
        assert not row.face_found


@pytest.mark.parametrize("placement", ["voice", "start"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_clean_row_is_what_inference_computes(kind, placement, tmp_path):
    spec = dataclasses.replace(SPEC, window_placement=placement, variants=())
    clip = clip_of(kind, tmp_path)
    (row,) = extract.extract_clip(clip, spec)
    named = clip.video or clip.audio
    opened = recording.open_recording(named, clip.audio if clip.video else None, spec)
    waveform = opened.waveform and opened.waveform.whole()
    clean = extract.clip_span(waveform, spec, opened.duration_seconds)
    assert clean in recording.plan_windows(opened, spec)
    (window,) = extract.read_windows(waveform, opened.video, [clean], spec, threads=0)
    fresh = extract.featurize(window, extract.find_face(window, spec), spec)
    assert row.features.mfcc.tobytes() == fresh.mfcc.tobytes()
    assert row.features.frames.tobytes() == fresh.frames.tobytes()
    assert (row.has_audio, row.has_video) == (
        opened.waveform is not None,
        opened.video is not None,
    )


def test_the_middle_of_a_silent_clip_is_taken(tmp_path):
    spec = dataclasses.replace(SPEC, frames_margin=1.0, decode="full", variants=())
    (row,) = extract.extract_clip(clip_of(silent_video, tmp_path), spec)
    # Frame number n of the 30 is grey of level 20 + 6 n.
    numbers = (row.features.frames.mean(axis=(1, 2, 3)) - 20) / 6
    assert numbers.mean() == pytest.approx(14.5, abs=0.6)
    assert (numbers[0], numbers[-1]) == pytest.approx((10, 19), abs=0.6)


def test_a_cover_is_no_video_and_a_still_frame_is_one(tmp_path):
    cover = zoo.write(tmp_path / "a.mp3", zoo.taken(zoo.SOUND, audio="libmp3lame", cover=True))
    assert not extract.extract_clip(Clip("a", 1, "happy", cover), SPEC)[0].has_video
    still = zoo.write(tmp_path / "a.mp4", zoo.taken(zoo.SILENT_VIDEO, times=(0.0,)))
    assert extract.extract_clip(Clip("a", 1, "happy", still), SPEC)[0].has_video


def test_an_audio_file_without_audio_is_refused(tmp_path):
    """It was named for its audio: the video's own track is not taken in its place."""
    video = write_video(tmp_path / "a.mp4", 1.0, sound=tone(1.0))
    silent = write_video(tmp_path / "b.mp4", 1.0)
    with pytest.raises(MediaError, match=r"expected audio in .*b.mp4, got no audio stream"):
        extract.extract_clip(Clip("a", 1, "happy", video, silent), SPEC)


@pytest.mark.parametrize("audio_name", [None, "a.wav"])
def test_a_damaged_stream_stays_an_error(tmp_path, audio_name):
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * RATE).astype(np.float32)
    whole = write_video(tmp_path / "whole.mp4", 4.0, sound=noise)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    wav = audio_name and write_wav(tmp_path / audio_name, voice(4.0, 3.4))
    with pytest.raises(MediaError, match=r"expected .*, got"):
        extract.extract_clip(Clip("a", 1, "happy", cut, wav), SPEC)


def test_audio_that_ends_before_the_first_frame_is_refused(tmp_path):
    """It ended the run with a ZeroDivisionError."""
    early = zoo.taken(zoo.H264, start=3.0, audio_start=-2.5, seconds=0.4, onset=0.1, end=0.3)
    path = zoo.write(tmp_path / "a.mkv", early)
    for read in (
        lambda: audio.read_waveform(path, RATE),
        lambda: extract.extract_clip(Clip("a", 1, "happy", path), SPEC),
    ):
        with pytest.raises(MediaError, match=r"expected audio .*a.mkv, got .* before .*; export"):
            read()


@pytest.mark.parametrize("samples", [0, 1, 2, 100, 3000])
@pytest.mark.parametrize("level", [0.0, 0.5])
@pytest.mark.parametrize(
    "change",
    [
        Change(noise_snr_db=10.0),
        Change(stretch_rate=1.25),
        Change(pitch_semitones=2.5),
        Change(pitch_semitones=-2.5, stretch_rate=0.8, noise_snr_db=8.0),
    ],
)
def test_a_short_or_silent_window_is_changed_without_error(samples, level, change, recwarn):
    waveform = np.full(samples, level, np.float32)
    changed = augment.change_waveform(waveform, change, np.random.default_rng(0), SPEC)
    assert changed.dtype == np.float32 and np.isfinite(changed).all()
    assert abs(len(changed) - samples / change.stretch_rate) <= 1
    assert np.isfinite(mfcc.mfcc(changed, SPEC)).all()
    assert level or not changed.any()
    assert not recwarn.list


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("resampler", "soxr_qq"),
        ("decoded_side_px", 24),
        ("decoded_scaler", "BILINEAR"),
        ("frame_scaler", "cubic"),
        ("loudness_hop_samples", 4096),
        ("silence_peak", 0.9),
        ("voice_threshold_db", 3.0),
    ],
)
def test_settings_of_the_spec_are_used(field, value, tmp_path):
    """A setting that no code reads would change the digest and no number."""
    grain = np.random.default_rng(0).integers(0, 256, (30, 48, 64, 3), np.uint8)
    waveform = voice(3.0, 1.2) * np.linspace(0.1, 1, 3 * RATE, dtype=np.float32)
    encode.write_mp4(
        tmp_path / "a.mp4", ((n / 10, frame) for n, frame in enumerate(grain)), None, RATE
    )
    wav = write_wav(tmp_path / "a.wav", waveform, 44_100)
    clip = Clip("a", 1, "happy", tmp_path / "a.mp4", wav)
    small = dataclasses.replace(SPEC, decoded_side_px=40, variants=())
    other = dataclasses.replace(small, **{field: value})
    (row,), (changed,) = (extract.extract_clip(clip, spec) for spec in (small, other))
    assert not all(map(np.array_equal, row.features, changed.features))
