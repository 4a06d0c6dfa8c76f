from __future__ import annotations

import av
import cv2
import numpy as np
import pytest
import soundfile

from pipeline.errors import InputError
from pipeline.sample import acting, corpus, expression, face, head, phones, voice
from pipeline.spec import EMOTIONS


def test_takes_are_those_of_ravdess():
    takes = corpus.takes(actors=2, repetitions=1)
    assert len(takes) == 60
    names = [take.name(1) for take in takes]
    assert names[:3] == [
        "01-01-01-01-01-01-01",
        "01-01-01-01-02-01-01",
        "01-01-02-01-01-01-01",
    ]
    assert names[-1] == "01-01-08-02-02-01-02"
    assert len(set(names)) == 60
    assert not any(name.startswith("01-01-01-02") for name in names)
    assert len(corpus.takes(actors=1, repetitions=2)) == 60


def test_every_emotion_has_its_row():
    for table in (acting.MANNERS, acting.EXPRESSIONS):
        assert tuple(table) == EMOTIONS
    for neighbours in (acting.VOICE_NEIGHBOURS, acting.FACE_NEIGHBOURS):
        assert tuple(neighbours) == EMOTIONS
        assert all(name in EMOTIONS and name != own for own, name in neighbours.items())
    assert np.all(np.array(list(acting.EXPRESSIONS.values())) <= 1)


def median_pitch_hz(utterance):
    """Pitch by autocorrelation: an oracle that knows nothing of the synthesiser."""
    start, end = (
        int(seconds * voice.SAMPLE_RATE_HZ)
        for seconds in (utterance.start_seconds, utterance.end_seconds)
    )
    pitches = []
    for first in range(start, end - 4800, 2400):
        window = utterance.waveform[first : first + 4800].astype(float)
        window -= window.mean()
        if np.sqrt(np.mean(window**2)) < 0.1 * np.abs(utterance.waveform).max():
            continue
        spectrum = np.abs(np.fft.rfft(window, 2 * len(window))) ** 2
        similarity = np.fft.irfft(spectrum)
        lags = slice(voice.SAMPLE_RATE_HZ // 500, voice.SAMPLE_RATE_HZ // 60)
        lag = lags.start + similarity[lags].argmax()
        pitches.append(voice.SAMPLE_RATE_HZ / lag)
    return np.median(pitches)


@pytest.mark.parametrize("female", [False, True])
def test_voice_has_the_pitch_it_is_told(female):
    speaker = voice.draw_speaker(female, np.random.default_rng(5))
    plain, high = acting.MANNERS["neutral"], acting.MANNERS["neutral"]._replace(pitch_semitones=6)
    pitches = [
        median_pitch_hz(
            voice.speak(speaker, manner, phones.STATEMENTS[0], np.random.default_rng(1))
        )
        for manner in (plain, high)
    ]
    assert pitches[0] == pytest.approx(speaker.base_pitch_hz, rel=0.2)
    assert pitches[1] / pitches[0] == pytest.approx(2 ** (6 / 12), rel=0.1)


def test_resonators_ring_at_their_formants():
    formants = np.tile([500.0, 1500.0, 2500.0, 3500.0, 4500.0], (200, 1))
    impulse = np.zeros(200 * voice.BLOCK_SAMPLES)
    impulse[0] = 1.0
    spectrum = np.abs(np.fft.rfft(voice.through_tract(impulse, formants, widen=1.0)))
    frequencies = np.fft.rfftfreq(len(impulse), 1 / voice.SAMPLE_RATE_HZ)
    # The fifth is broad and only bends the slope.
    for formant in formants[0, :4]:
        near = (frequencies > formant - 200) & (frequencies < formant + 200)
        assert frequencies[near][spectrum[near].argmax()] == pytest.approx(formant, abs=25)


def test_clips_open_and_close_in_a_quiet_room():
    for take in corpus.takes(actors=2, repetitions=1)[::7]:
        waveform, units, _ = corpus.record(take, seed=0)
        seconds = len(waveform) / voice.SAMPLE_RATE_HZ
        assert waveform.dtype == np.float32
        assert 2.7 < seconds < 4.0
        assert 0.04 < np.abs(waveform).max() <= 0.9
        for quiet in (waveform[:30_000], waveform[-15_000:]):
            assert 0 < np.abs(quiet).max() < 0.004
        assert units.min() >= 0 and units.max() <= 1
        assert len(units) == int(seconds * corpus.FRAMES_PER_SECOND)


def test_loudness_follows_the_sound():
    waveform = np.zeros(voice.SAMPLE_RATE_HZ, np.float32)
    waveform[12_000:24_000] = 0.5
    levels = voice.loudness(waveform, np.array([0.1, 0.3, 0.4, 0.8]))
    np.testing.assert_allclose(levels, [0, 1, 1, 0], atol=1e-6)


def test_expression_comes_and_goes_around_speech():
    times = np.arange(90) / 25
    shown = expression.course(times, 1.0, 2.6, np.random.default_rng(0))
    assert shown[0] == 0
    assert shown[(times > 1.5) & (times < 2.4)].min() > 0.8
    assert shown[-1] < 0.6


def drawn(units, number=1):
    look = corpus.cast_actor(number, seed=0).look
    return face.draw_frame(head.paint_portrait(look), look, units, 0.0, 0.0, face.Pose())


def test_the_cascade_finds_one_face_in_every_expression():
    path = cv2.data.haarcascades + "haarcascade_frontalface_default.xml"
    cascade = cv2.CascadeClassifier(path)
    for number in (1, 2):
        for units in acting.EXPRESSIONS.values():
            picture = cv2.cvtColor(drawn(units, number), cv2.COLOR_RGB2GRAY)
            picture = cv2.resize(picture, (360, 270), interpolation=cv2.INTER_AREA)
            boxes = cascade.detectMultiScale(picture, 1.1, 5)
            assert len(boxes) == 1
            assert boxes[0][3] > 270 / 3


def test_every_action_unit_moves_the_picture():
    plain = acting.EXPRESSIONS["neutral"]
    still = drawn(plain).astype(int)
    np.testing.assert_array_equal(still, drawn(plain))
    for name in acting.ActionUnits._fields:
        moved = np.abs(drawn(plain._replace(**{name: 1.0})) - still).max(axis=2)
        assert (moved > 12).sum() > 40, name


def test_files_are_the_same_for_any_number_of_jobs(tmp_path, monkeypatch):
    few = corpus.takes(1, 1)[::16]
    monkeypatch.setattr(corpus, "takes", lambda actors, repetitions: few)
    one = corpus.write_corpus(tmp_path / "one", actors=1, jobs=1, progress=False)
    two = corpus.write_corpus(tmp_path / "two", actors=1, jobs=2, progress=False)
    assert [path.relative_to(tmp_path / "one") for path in one] == [
        path.relative_to(tmp_path / "two") for path in two
    ]
    for first, second in zip(one, two, strict=True):
        assert first.read_bytes() == second.read_bytes()
    everything = sorted(path for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert everything == sorted([*one, tmp_path / "one" / "corpus.txt"])

    wav = tmp_path / "one" / "audios" / "Actor_01" / f"{few[0].name(3)}.wav"
    mp4 = tmp_path / "one" / "videos" / "Actor_01" / f"{few[0].name(1)}.mp4"
    info = soundfile.info(wav)
    assert (info.samplerate, info.channels, info.subtype) == (48_000, 1, "PCM_16")
    with av.open(str(mp4)) as container:
        video, sound = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.width, video.height) == ("h264", 480, 360)
        assert (sound.codec_context.name, sound.rate) == ("aac", 48_000)
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(sound)])
    samples, _ = soundfile.read(wav)
    assert np.corrcoef(heard[: len(samples)], samples)[0, 1] > 0.98


def test_what_is_there_is_kept_and_other_recordings_are_refused(tmp_path, monkeypatch):
    few = corpus.takes(1, 1)[:2]
    monkeypatch.setattr(corpus, "takes", lambda actors, repetitions: few)

    def write(seed):
        paths = corpus.write_corpus(tmp_path, actors=1, jobs=1, seed=seed, progress=False)
        return {path: (path.stat().st_ino, path.read_bytes()) for path in paths}

    first = write(seed=0)
    lost = corpus.take_paths(tmp_path, few[0])[0]
    lost.unlink()
    again = write(seed=0)
    assert again[lost][1] == first[lost][1]
    for path in corpus.take_paths(tmp_path, few[1]):
        assert again[path] == first[path]
    other = write(seed=1)
    assert all(other[path][1] != held for path, (_, held) in first.items())

    (tmp_path / "corpus.txt").write_text("recordings of my own\n")
    with pytest.raises(InputError, match="other recordings"):
        write(seed=1)
    assert all(path.read_bytes() == held for path, (_, held) in other.items())


@pytest.mark.parametrize("wrong", [{"actors": 0}, {"actors": 100}, {"repetitions": 0}])
def test_counts_must_fit_the_names(tmp_path, wrong):
    with pytest.raises(ValueError, match=r"1 \.\.\. 99"):
        corpus.write_corpus(tmp_path, progress=False, **wrong)
