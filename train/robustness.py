"""How answers hold when a modality is missing or weak: rows are degraded and judged."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Collection
from pathlib import Path

import keras
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import fft

from pipeline import atomic
from pipeline.spec import FeatureSpec
from train import evaluate, rest
from train.cepstrum import MEL_BANDS, band_edges_hz
from train.dataset import EVALUATION_BATCH_SIZE
from train.heads import HEADS
from train.reading import RowReader
from train.table import Rows

MOST_CLIPS = 240
"""More clips than this are sampled, to keep the table cheap."""

NOISE_LEVELS_DB = (20, 10, 0)

TOP_DB = 80.0
SMALLEST_POWER = 1e-10
"""What ``librosa.feature.mfcc`` does by default: range below the peak, and floor."""

SMOOTHING_LOSS_DB = 2.0
"""What a voice's level loses when its spectrum is smoothed on the dB scale: peaks lose more than
valleys gain. The mean over real voices."""

JSON_NAME, TABLE_NAME = "robustness.json", "robustness.md"

Spoil = Callable[
    [NDArray[np.float32], NDArray[np.uint8], FeatureSpec, np.random.Generator],
    tuple[NDArray[np.float32], NDArray[np.uint8]],
]


@functools.lru_cache(maxsize=1)
def mel_filters(spec: FeatureSpec) -> NDArray[np.float64]:
    """Triangles of unit area in Hz, shape (MEL_BANDS, 1 + fft_samples // 2)."""
    edges = band_edges_hz(spec)
    bins = np.fft.rfftfreq(spec.fft_samples, 1 / spec.sample_rate_hz)
    low, middle, high = (edges[shift : shift + MEL_BANDS, np.newaxis] for shift in range(3))
    rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)


def white_noise_power(spec: FeatureSpec, random: np.random.Generator) -> NDArray[np.float64]:
    """Mel power spectrum of white noise of mean square 1, shape (MEL_BANDS, mfcc_columns)."""
    samples = spec.fft_samples + (spec.mfcc_columns - 1) * spec.hop_samples
    noise = random.standard_normal(samples)
    frames = sliding_window_view(noise, spec.fft_samples)[:: spec.hop_samples]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(spec.fft_samples) / spec.fft_samples)
    return mel_filters(spec) @ np.square(np.abs(np.fft.rfft(frames * hann))).T


def mean_square(power: NDArray[np.float64], spec: FeatureSpec) -> NDArray[np.float64]:
    """Mean square of the sound behind mel power spectra, shape (…, MEL_BANDS, columns).

    Triangles of height one add up to one at every frequency, so bands weighted by half their
    width add up to the spectrum; what all columns share cancels out in a ratio.
    """
    edges = band_edges_hz(spec)
    return np.einsum("b,...bc->...", (edges[2:] - edges[:-2]) / 2, power) / power.shape[-1]


def add_noise(
    mfcc: NDArray[np.float32], snr_db: float, spec: FeatureSpec, random: np.random.Generator
) -> NDArray[np.float32]:
    """MFCC images as they would be with white noise added to the sound.

    Parameters
    ----------
    mfcc
        Shape (rows, mfcc_count, mfcc_columns, 1). Columns of zeros hold no sound and get none.
    snr_db
        Mean power of the window's sound over that of the noise, in dB.
    spec
        How the images were made.
    random
        Draws the noise, another for each row.

    Returns
    -------
    ndarray of float32, of the shape of ``mfcc``

    Notes
    -----
    The cosine transform is undone, the noise's power added in each mel band, and the transform
    done again with the floor and the range of ``librosa.power_to_db``. The cached coefficients
    are the first ones of a spectrum of ``MEL_BANDS`` bands, so what is undone is that spectrum
    smoothed; noise fills its valleys, where the smoothing matters least.
    """
    spoilt = np.zeros_like(mfcc)
    for row, image in enumerate(mfcc[..., 0].astype(np.float64)):
        heard = image.any(axis=0)
        if not heard.any():
            continue
        level = fft.idct(image[:, heard], axis=0, norm="ortho", n=MEL_BANDS)
        power = 10 ** (level / 10)
        noise = white_noise_power(spec, random)[:, heard]
        # White noise goes on above the bands, a voice hardly does.
        of_noise = mean_square(noise, spec) * spec.sample_rate_hz / 2 / spec.fmax_hz
        ratio = mean_square(power, spec) / of_noise
        noise *= ratio * 10 ** ((SMOOTHING_LOSS_DB - snr_db) / 10)
        louder = 10 * np.log10(np.maximum(power + noise, SMALLEST_POWER))
        louder = np.maximum(louder, louder.max() - TOP_DB)
        spoilt[row][:, heard, 0] = fft.dct(louder, axis=0, norm="ortho")[: spec.mfcc_count]
    return spoilt


def blacken_half(frames: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Turn half of the pictures of each row, shape (rows, pictures, …), black, at random."""
    spoilt = frames.copy()
    for pictures in spoilt:
        count = len(pictures)
        pictures[random.permutation(count)[: count // 2]] = 0
    return spoilt


def conditions() -> dict[str, Spoil]:
    """List what is done to the rows, by name, the untouched rows first."""
    noises = {
        f"noise at {level} dB": lambda mfcc, frames, spec, random, level=level: (
            add_noise(mfcc, level, spec, random),
            frames,
        )
        for level in NOISE_LEVELS_DB
    }
    return {
        "untouched": lambda mfcc, frames, spec, random: (mfcc, frames),
        "no sound": lambda mfcc, frames, spec, random: (np.zeros_like(mfcc), frames),
        "no picture": lambda mfcc, frames, spec, random: (mfcc, np.zeros_like(frames)),
        **noises,
        "half the pictures black": lambda mfcc, frames, spec, random: (
            mfcc,
            blacken_half(frames, random),
        ),
    }


def possible(rows: Rows, learned: Collection[str]) -> dict[str, Spoil]:
    """Those conditions that degrade a modality which is there and leave an answer possible."""
    heard, seen = (head in evaluate.judged_rows(rows, learned) for head in ("audio", "video"))
    needed = {"untouched": True, "no sound": heard and seen, "no picture": heard and seen}
    needed["half the pictures black"] = seen
    return {name: spoil for name, spoil in conditions().items() if needed.get(name, heard)}


def measure(model: keras.Model, rows: Rows, learned: Collection[str] = HEADS) -> dict:
    """Judge a model on rows that lack something.

    Parameters
    ----------
    model
        See :func:`train.model.build_fusion_cnn`.
    rows
        Clean rows of test actors; at most ``MOST_CLIPS`` of them are taken. Where they are read
        against a person at rest, that recording has the same noise.
    learned
        Heads that have learned, see :func:`train.evaluate.judged_rows`.

    Returns
    -------
    dict
        ``clips``, ``left_out`` and ``conditions``: of each condition and head ``war`` and ``uar``.
    """
    random = np.random.default_rng(0)
    chosen = np.sort(random.permutation(len(rows))[:MOST_CLIPS])
    spoils, reader = possible(rows, learned), RowReader(rows)
    answers: dict = {name: {head: [] for head in HEADS} for name in spoils}
    for first in range(0, len(chosen), EVALUATION_BATCH_SIZE):
        numbers = chosen[first : first + EVALUATION_BATCH_SIZE]
        mfcc, frames, _ = reader.read(numbers)
        at_rest = reader.at_rest(numbers)
        for name, spoil in spoils.items():
            heard, seen = spoil(mfcc, frames, rows.spec, random)
            if at_rest is not None:
                # Recorded in the same room: with its noise, but with pictures of its own.
                same_room, _ = spoil(*at_rest, rows.spec, random)
                heard, seen = rest.relate(heard, seen, same_room, at_rest[1])
            outputs = model.predict_on_batch({"mfcc": heard, "frames": seen})
            for head in HEADS:
                answers[name][head].append(np.asarray(outputs[head]).argmax(axis=1))
    tested = rows.take(chosen)
    return {
        "clips": len(tested),
        "left_out": evaluate.left_out(tested, learned),
        "conditions": {
            name: {
                head: evaluate.averages(tested.label[having], np.concatenate(heads[head])[having])
                for head, having in evaluate.judged_rows(tested, learned).items()
            }
            for name, heads in answers.items()
        },
    }


def table(measured: dict) -> str:
    """Markdown table of every condition: the fused answer beside each head's own, in percent."""
    lines = [
        "| | fused UAR | fused WAR | voice alone UAR | face alone UAR |",
        "|---|---|---|---|---|",
    ]
    for name, heads in measured["conditions"].items():
        values = [heads["fused"]["uar"], heads["fused"]["war"]]
        values += [heads[head]["uar"] if head in heads else None for head in ("audio", "video")]
        cells = " | ".join("left out" if v is None else f"{100 * v:.1f}" for v in values)
        lines.append(f"| {name} | {cells} |")
    said = "".join(f"; {line}" for line in measured["left_out"])
    lines += ["", f"{measured['clips']} test clips; in percent{said}"]
    return "\n".join(lines)


def write(folder: Path, measured: dict) -> None:
    """Write ``robustness.json`` and ``robustness.md`` into a report."""
    atomic.write_durably(folder / JSON_NAME, json.dumps(measured, indent=1).encode())
    atomic.write_durably(folder / TABLE_NAME, f"{table(measured)}\n".encode())
