"""Every odd file is read right, or refused in one line."""

import os

import av
import librosa
import numpy as np
import pytest
import zoo
from conftest import RATE, tally

from infer.reading import recording
from pipeline.corpora import scan
from pipeline.corpora.clip import Clip
from pipeline.errors import InputError, MediaError
from pipeline.features import extract
from pipeline.features.frames import spread_times
from pipeline.features.mfcc import window_start
from pipeline.media import audio, container, video
from pipeline.spec import FeatureSpec

SPEC = FeatureSpec(window_seconds=1.0, variants=(), crop="whole", decode="full")
LEAST_FILES = 60


def made(case, folder):
    missing = [name for name in case.encoders if name not in av.codecs_available]
    if missing:
        pytest.skip(f"this FFmpeg has no encoder {', '.join(missing)}")
    return case.make(folder / case.file, case.take)


def test_the_zoo_is_as_large_as_it_says():
    names = [case.name for case in (*zoo.CASES, *zoo.CUTS)]
    assert len(names) == len(set(names)) >= LEAST_FILES


def refused(read, pattern, path):
    """Whether a reader refuses a file, as it should, in one line that names it."""
    if pattern is None:
        return False
    with pytest.raises(MediaError, match=pattern) as caught:
        read()
    message = str(caught.value)
    assert "\n" not in message and path.name in message and "; " in message
    return True


def check_audio(waveform, take, late_seconds):
    """The tone has its pitch, begins when it should, and the sound is as long as it is."""
    length = take.audio_start + take.seconds
    assert len(waveform) / RATE == pytest.approx(length, abs=0.12)
    assert np.isfinite(waveform).all()
    if not take.hertz:
        assert not waveform.any()
        return
    onset, end = take.audio_start + take.onset, take.audio_start + take.end
    loud = np.flatnonzero(np.abs(waveform) > 0.2)
    assert loud[0] / RATE == pytest.approx(onset, abs=late_seconds + 0.002)
    assert loud[-1] / RATE == pytest.approx(end, abs=late_seconds + 0.04)
    inner = waveform[round((onset + 0.1) * RATE) : round((end - 0.1) * RATE)]
    spectrum = np.abs(np.fft.rfft(inner * np.hanning(len(inner))))
    assert spectrum.argmax() * RATE / len(inner) == pytest.approx(take.hertz, abs=2)
    # AAC's sixth channel carries the lowest tones alone, so the mean of six loses a sixth.
    assert np.sqrt(np.mean(inner**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.2)


def check_frames(path, take, end_known=True):
    """Each time shows the frame that is on screen then, upright and in its shape."""
    gap = np.diff(take.times).min() if len(take.times) > 1 else 0.05
    places = range(0, len(take.times), max(1, len(take.times) // 60))
    times = [take.times[place] + gap / 2 for place in places]
    after = [take.times[-1] + 5] if end_known else []
    before, *shown = video.frames_at(path, [-0.1, *times, *after], SPEC)
    assert before is None
    assert [zoo.number_in(frame) for frame in shown] == [*places, *(None for _ in after)]
    height, width = take.size
    assert shown[0].shape[0] / shown[0].shape[1] == pytest.approx(height / width, rel=0.05)
    last = max(0, len(take.times) - 3)
    late = video.read_consecutive_frames(path, take.times[last] + gap / 3, 4, SPEC)
    count = len(take.times) - last
    assert [zoo.number_in(frame) for frame in late] == [
        *range(last, len(take.times)),
        *[None] * (4 - count),
    ]


def check_features(path, take):
    """The cached tensors are those of the tone and of the frames shown with it."""
    clip = Clip("a", 1, "happy", path)
    ((_, (mfcc, frames), *_),) = extract.extract_clip(clip, SPEC)
    start = window_start(audio.read_waveform(path, RATE), SPEC) / RATE
    assert mfcc.shape == (40, 44, 1) and np.isfinite(mfcc).all()
    if take.hertz:
        onset = take.audio_start + take.onset
        assert start == pytest.approx(min(onset, take.audio_start + take.seconds - 1), abs=0.15)
        mel = librosa.feature.inverse.mfcc_to_mel(mfcc[:, 5:38, 0], n_mels=128)
        bands = librosa.mel_frequencies(130, fmax=SPEC.fmax_hz, htk=True)[1:-1]
        assert np.abs(bands[mel.argmax(axis=0)] / take.hertz - 1).max() < 0.15
    else:
        assert np.ptp(mfcc) == pytest.approx(abs(mfcc[0, 0, 0]))
    length, margin = SPEC.window_samples / RATE, SPEC.frames_margin
    times = spread_times(start, length, SPEC.frame_count, margin)
    near = [{take.number_at(time + step) for step in (-0.003, 0, 0.003)} for time in times]
    # How long the last frame stays, files state in different ways.
    last = len(take.times) - 1
    near = [
        some | {last} if time > take.times[-1] else some
        for some, time in zip(near, times, strict=True)
    ]
    # The first and the last of them stand for what lies outside of the recording.
    within = [number for number, time in enumerate(times) if 0 <= time <= take.times[-1]]
    for number, some in enumerate(near):
        if within and None in some:
            some |= near[min(max(number, within[0]), within[-1])] - {None}
            some -= {None}
    assert all(zoo.number_in(frame) in some for frame, some in zip(frames, near, strict=True))


def check_one_modality_or_refusal(path, case):
    """A missing stream gives zeros and a row that says so; a damaged one is refused."""
    clip = Clip("a", 1, "happy", path)
    missing = {zoo.NO_SOUND: "has_audio", zoo.NO_VIDEO: "has_video"}
    errors = [error for error in (case.audio_error, case.video_error) if error]
    damages = [error for error in errors if error not in missing]
    if damages or not errors:
        pattern = damages[0] if damages else "the file is cut short"
        refused(lambda: extract.extract_clip(clip, SPEC), pattern, path)
        return
    (row,) = extract.extract_clip(clip, SPEC)
    assert [not getattr(row, name) for name in missing.values()] == [
        pattern in errors for pattern in missing
    ]
    assert row.features.mfcc.any() == row.has_audio
    assert row.features.frames.any() == row.has_video


@pytest.mark.torture
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
    heard = not refused(lambda: audio.read_waveform(path, RATE), case.audio_error, path)
    seen = not refused(lambda: next(video.frames_at(path, [0.1], SPEC)), case.video_error, path)
    if heard:
        check_audio(audio.read_waveform(path, RATE), take, case.late_seconds)
    if seen:
        check_frames(path, take, case.end_known)
    if heard and seen and case.end_known:
        check_features(path, take)
    else:
        check_one_modality_or_refusal(path, case)
    tally("odd media: the right tensor or refusal", 1, 1)


@pytest.mark.torture
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in zoo.CUTS])
def test_a_file_cut_anywhere_is_refused_or_nearly_whole(case, tmp_path):
    """What is read is the beginning of the whole, and at most half a second is missing."""
    path, take = made(case, tmp_path), case.take
    places = range(0, len(take.times), 4)
    outcomes = set()
    try:
        waveform = audio.read_waveform(path, RATE)
    except MediaError as error:
        assert "\n" not in str(error)
        outcomes.add("refused")
    else:
        assert len(waveform) / RATE > take.seconds - container.TRUNCATION_SECONDS - 0.05
        ends = len(waveform) / RATE
        on = waveform[round((take.onset + 0.1) * RATE) : round((ends - 0.1) * RATE)]
        spectrum = np.abs(np.fft.rfft(on * np.hanning(len(on))))
        assert spectrum.argmax() * RATE / len(on) == pytest.approx(take.hertz, abs=2)
    try:
        times = [take.times[place] + 0.02 for place in places]
        shown = list(video.frames_at(path, times, SPEC))
    except MediaError as error:
        assert "\n" not in str(error)
        outcomes.add("refused")
    else:
        there = [place for place in places if take.times[place] < 4.0 - 0.6]
        numbers = [zoo.number_in(frame) for frame in shown]
        assert numbers[: len(there)] == there
        for number, place in zip(numbers, places, strict=True):
            assert number in (None, place)
    assert outcomes == {"refused"} or case.name.endswith("90 %")
    tally("odd media: cut at a tenth", 1, 1)


def without_root(read):
    """Run a reader in a process that file permissions bind, and return what it says."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            read()
            said = "read"
        except InputError as error:
            said = str(error)
        os.write(into, said.encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out, "rb") as stream:
        said = stream.read().decode()
    os.waitpid(child, 0)
    return said


def test_a_file_without_permission_is_refused(tmp_path_factory):
    folder = tmp_path_factory.mktemp("open")
    path = zoo.write(folder / "a.mp4", zoo.H264)
    audio.read_waveform(path, RATE)
    path.chmod(0)
    said = without_root(lambda: audio.read_waveform(path, RATE))
    assert said.startswith("expected a readable media file at ") and "Permission denied" in said
    assert "\n" not in said


def test_links_that_lead_in_circles(tmp_path):
    """A link to itself is refused; a folder that holds itself is walked once."""
    folder = tmp_path / "raw" / "Actor_01"
    folder.mkdir(parents=True)
    zoo.write(folder / "01-01-03-01-01-01-01.mp4", zoo.H264)
    (folder / "again").symlink_to(folder, target_is_directory=True)
    loop = folder / "01-01-04-01-01-01-01.mp4"
    loop.symlink_to(loop)
    found = scan.scan(tmp_path / "raw")
    assert [clip.id for clip in found.clips] == ["01-03-01-01-01-01"]
    assert [path for path, _ in found.unreachable] == [loop]
    assert extract.extract_clip(found.clips[0], SPEC)
    with pytest.raises(MediaError, match="symbolic links") as caught:
        extract.extract_clip(Clip("a", 1, "sad", loop), SPEC)
    assert "\n" not in str(caught.value)


def test_a_silent_video_takes_its_audio_from_the_wav(tmp_path):
    silent = zoo.write(tmp_path / "a.mp4", zoo.SILENT_VIDEO)
    wav = zoo.plain_wav("PCM_16")(tmp_path / "b.wav", zoo.SOUND)
    clip = Clip("a", 1, "happy", silent, wav)
    ((_, (mfcc, frames), *_),) = extract.extract_clip(clip, SPEC)
    assert mfcc.any() and zoo.number_in(frames[0]) is not None


INFERRED = [
    "h264.flv",
    "vp9-opus.webm",
    "mpeg2-ac3.mpg",
    "mp3 with a cover",
    "all-zero sound",
    "no audio stream",
    "turned 90",
    "1 frame",
    "starts at 10 s",
    "too many frames in the header",
    "named take:1.mp4",
    "html named mp4",
    "random bytes named wav",
    "20000x20000",
]


@pytest.mark.parametrize(
    "case", [pytest.param(c, id=c.name) for c in zoo.CASES if c.name in INFERRED]
)
def test_inference_opens_the_zoo(case, tmp_path):
    path, take = made(case, tmp_path), case.take
    refusal = case.video_error if case.video_error != zoo.NO_VIDEO else None
    if refused(lambda: recording.open_recording(path, None, SPEC), refusal, path):
        return
    taken = recording.open_recording(path, None, SPEC)
    assert (taken.video is None) == (take.video is None)
    assert (taken.waveform is None) == (take.audio is None)
    length = max(take.seconds if take.audio else 0, take.times[-1] if take.video else 0)
    if case.end_known:
        assert taken.duration_seconds == pytest.approx(length, abs=0.15)
    if take.video:
        assert taken.width_px == take.size[1]
    if take.audio:
        check_audio(taken.waveform.whole(), take, case.late_seconds)
    windows = recording.plan_windows(taken, SPEC)
    assert len(windows) <= 2 * taken.duration_seconds / SPEC.window_seconds + 3
