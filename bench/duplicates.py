"""How often near copies are found, and found where there are none: ``python -m bench.duplicates``.

Every pair of the voices in a raw folder is compared. Some voices are encoded anew, shifted and
re-levelled, and looked for among all.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from pipeline import console
from pipeline.corpora import fingerprint, measure, scan
from pipeline.corpora.clip import Clip
from pipeline.corpora.near_copies import LEAST_WORDS, error_rate, near_copies
from pipeline.media import audio

RATE_HZ = 44100
SHIFT_SECONDS, GAIN_DB = 0.7, -12.0
EVERY = 9
"""One of this many clips is encoded anew."""

SAMPLED_PAIRS = 500

ENCODINGS = {
    "AAC 32 kbit/s": ("aac", ".m4a", 32_000, 0.0, 0.0),
    "MP3 32 kbit/s": ("libmp3lame", ".mp3", 32_000, 0.0, 0.0),
    "MP3 64 kbit/s, 0.7 s later, -12 dB": (
        "libmp3lame",
        ".mp3",
        64_000,
        SHIFT_SECONDS,
        GAIN_DB,
    ),
}
"""Codec, suffix, bits a second, shift in seconds and gain in dB of each copy."""

Words = NDArray[np.uint32]


def write_audio(path: Path, waveform: NDArray[np.float32], codec: str, bit_rate: int) -> None:
    """Encode a mono waveform at ``RATE_HZ``."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE_HZ, layout="mono")
        stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(waveform[np.newaxis], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = RATE_HZ, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_copy(path: Path, source: Path, encoding: str) -> Path:
    """Encode a recording anew, as ``ENCODINGS`` says, with a faint noise before it."""
    codec, suffix, bit_rate, shift_seconds, gain_db = ENCODINGS[encoding]
    waveform = audio.read_waveform(source, RATE_HZ)
    noise = np.random.default_rng(0).normal(0, 1e-3, round(shift_seconds * RATE_HZ))
    shifted = np.concatenate([noise, waveform]) * 10 ** (gain_db / 20)
    written = path.with_suffix(suffix)
    write_audio(written, shifted.astype(np.float32), codec, bit_rate)
    return written


def words_of(path: Path) -> tuple[Words, str | None]:
    """Fingerprint and digest of a recording, as an audit takes them."""
    facts = measure.audio_facts(path)
    return fingerprint.from_text(facts["fingerprint"]), facts["audio_digest"]


def least_error(one: Words, other: Words) -> float:
    """Return the error rate at the best of all offsets; 1 where they share too little."""
    offsets = range(LEAST_WORDS - len(other), len(one) - LEAST_WORDS + 1)
    rates = (error_rate(one, other, offset) for offset in offsets)
    return min((rate for rate in rates if rate is not None), default=1.0)


def false_positives(clips: Sequence[Clip], prints: list[Words], digests: list) -> Iterator[str]:
    """Yield lines about all pairs of different recordings."""
    started = time.process_time()
    found = near_copies(prints)
    seconds = time.process_time() - started
    pairs = len(clips) * (len(clips) - 1) // 2
    same = [pair for pair in found if digests[pair.first] == digests[pair.second]]
    yield (
        f"{pairs:,} pairs of {len(clips):,} voices in {seconds:.2f} s: {len(found)} found, "
        f"{len(same)} of them the same samples, {len(found) - len(same)} false"
    )
    for pair in found:
        names = " = ".join(clips[place].id for place in (pair.first, pair.second))
        kind = "the same samples" if pair in same else "FALSE"
        yield f"  {names}: {pair.error_rate:.1%} of the bits differ, {kind}"
    rng = np.random.default_rng(0)
    firsts = rng.integers(0, len(clips), SAMPLED_PAIRS).tolist()
    anyone = list(range(len(clips)))
    alike = {place: like(clips, place) for place in set(firsts)}
    for what, others in (
        ("at random", dict.fromkeys(firsts, anyone)),
        ("of the same speaker and emotion", alike),
    ):
        rates = [
            least_error(prints[one], prints[other])
            for one in firsts
            if others[one]
            for other in [rng.choice(others[one])]
            if digests[one] != digests[other]
        ]
        if rates:
            yield (
                f"bits that differ at the best of all offsets, {len(rates)} pairs {what}: least "
                f"{min(rates):.1%}, median {np.median(rates):.1%}"
            )


def like(clips: Sequence[Clip], place: int) -> list[int]:
    """List the other clips of the speaker and the emotion of one."""
    own = clips[place]
    return [
        other
        for other, clip in enumerate(clips)
        if other != place and (clip.actor, clip.emotion) == (own.actor, own.emotion)
    ]


def recall(clips: Sequence[Clip], prints: list[Words], folder: Path) -> Iterator[str]:
    """Yield lines about copies that are encoded anew."""
    chosen = range(0, len(clips), EVERY)
    for encoding in ENCODINGS:
        copies = []
        for place in chosen:
            path = write_copy(folder / str(place), clips[place].audio_source, encoding)
            copies.append(words_of(path)[0])
            path.unlink()
        found = near_copies([*prints, *copies])
        pairs = [pair for pair in found if pair.first < len(prints) <= pair.second]
        own = [pair for pair in pairs if chosen[pair.second - len(prints)] == pair.first]
        rates = [pair.error_rate for pair in own]
        offsets = {round(pair.offset_seconds, 2) for pair in own}
        yield (
            f"{encoding}: {len(own)} of {len(chosen)} copies found, {len(pairs) - len(own)} pairs "
            f"with other voices; bits that differ: median {np.median(rates):.1%}, most "
            f"{max(rates):.1%}; offsets {sorted(offsets)} s"
        )


def bench(arguments: argparse.Namespace) -> int:
    """Print what is found."""
    clips = [clip for clip in scan.scan(arguments.raw).clips if clip.audio_source]
    started = time.process_time()
    with console.bar(clips, desc="fingerprint", unit="clip") as bar:
        measured = [words_of(clip.audio_source) for clip in bar]
    each = (time.process_time() - started) / len(clips)
    prints, digests = [words for words, _ in measured], [digest for _, digest in measured]
    print(f"{len(clips):,} voices: {1e3 * each:.1f} ms of CPU each to decode and fingerprint")
    for line in false_positives(clips, prints, digests):
        print(line, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for line in recall(clips, prints, Path(folder)):
            print(line, flush=True)
    return 0


def main() -> int:
    """Parse the command line and run it."""
    top = console.Parser(prog="python -m bench.duplicates", description=__doc__)
    top.add_argument(
        "--raw", type=Path, default=Path("data/raw"), metavar="DIR", help="folder of recordings"
    )
    arguments = top.parse_args()
    return console.run(lambda: bench(arguments))


if __name__ == "__main__":
    sys.exit(main())
