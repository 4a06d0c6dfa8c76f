"""Fingerprints: a copy of a voice is found however it was made, another voice is not."""

import numpy as np
import pytest
from conftest import RATE, tone, write_wav

from bench import duplicates
from pipeline.corpora import fingerprint, measure, near_copies
from pipeline.sample import corpus, voice


def voice_of(actor, emotion=5):
    """A synthetic voice; another one for each actor."""
    waveform, _, _ = corpus.record(corpus.Take(emotion, 2, 1, 1, actor), 0)
    return np.asarray(waveform, np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("voices")
    for actor in (1, 2, 3, 4):
        write_wav(folder / f"{actor}.wav", voice_of(actor), voice.SAMPLE_RATE_HZ)
    return folder


@pytest.fixture(scope="module")
def prints(folder):
    return [duplicates.words_of(folder / f"{actor}.wav")[0] for actor in (1, 2, 3, 4)]


@pytest.mark.parametrize("encoding", duplicates.ENCODINGS)
def test_a_voice_encoded_anew_shifted_or_relevelled_is_found(folder, prints, tmp_path, encoding):
    path = duplicates.write_copy(tmp_path / "copy", folder / "2.wav", encoding)
    (found,) = near_copies.near_copies([*prints, duplicates.words_of(path)[0]])
    assert (found.first, found.second) == (1, 4)
    # The same moment comes earlier in the original.
    shift = duplicates.ENCODINGS[encoding][3]
    assert found.offset_seconds == pytest.approx(-shift, abs=fingerprint.HOP_SECONDS)
    assert found.error_rate < 0.15


def test_different_voices_are_not_alike(prints):
    assert near_copies.near_copies(prints) == []
    for place, one in enumerate(prints):
        for other in prints[:place]:
            assert duplicates.least_error(one, other) > 0.3


def test_two_noises_differ_in_half_of_their_bits_and_a_noise_in_none_of_its_own():
    one, other = np.random.default_rng(0).normal(0, 0.1, (2, 4 * fingerprint.RATE_HZ))
    prints = [fingerprint.fingerprint(noise.astype(np.float32)) for noise in (one, other)]
    assert near_copies.error_rate(*prints, 0) == pytest.approx(0.5, abs=0.05)
    assert near_copies.error_rate(prints[0], prints[0], 0) == 0
    quieter = fingerprint.fingerprint((one * 2.0**-6).astype(np.float32))
    assert (quieter == prints[0]).all()


def test_a_shift_by_whole_hops_moves_the_words():
    noise = np.random.default_rng(1).normal(0, 0.1, 2 * fingerprint.RATE_HZ).astype(np.float32)
    whole = fingerprint.fingerprint(noise)
    later = fingerprint.fingerprint(noise[5 * fingerprint.HOP_SAMPLES :])
    assert (whole[5:] == later).all()
    (found,) = near_copies.near_copies([whole, later])
    assert found == (0, 1, pytest.approx(5 * fingerprint.HOP_SECONDS), 0.0)


@pytest.mark.parametrize("seconds", [0, 0.1, 0.5])
def test_what_is_too_short_or_silent_has_nothing_in_common(seconds):
    short = fingerprint.fingerprint(tone(seconds, rate=fingerprint.RATE_HZ).astype(np.float32))
    silent = fingerprint.fingerprint(np.zeros(2 * fingerprint.RATE_HZ, np.float32))
    assert not silent.any()
    assert near_copies.near_copies([short, short, silent, silent]) == []
    assert near_copies.near_copies([]) == []


def test_of_many_copies_each_is_in_a_pair():
    noise = np.random.default_rng(2).normal(0, 0.1, 2 * fingerprint.RATE_HZ).astype(np.float32)
    words = fingerprint.fingerprint(noise)
    found = near_copies.near_copies([words] * 30)
    assert {place for pair in found for place in pair[:2]} == set(range(30))
    assert len(found) < 30 * near_copies.NEIGHBOURS


def test_a_fingerprint_is_the_same_as_text_and_back():
    words = np.random.default_rng(3).integers(0, 1 << 32, 99, dtype=np.uint32)
    assert (fingerprint.from_text(fingerprint.to_text(words)) == words).all()
    assert len(fingerprint.from_text("")) == 0


def test_an_audit_fingerprints_the_first_two_minutes(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprint, "MOST_SECONDS", 1.0)
    noise = np.random.default_rng(4).uniform(-0.5, 0.5, 3 * RATE)
    facts = measure.audio_facts(write_wav(tmp_path / "a.wav", noise))
    words = fingerprint.from_text(facts["fingerprint"])
    samples = fingerprint.RATE_HZ - fingerprint.FRAME_SAMPLES
    assert len(words) == samples // fingerprint.HOP_SAMPLES
    assert facts["audio_seconds"] == 3.0
