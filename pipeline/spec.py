"""What a cached number means: every setting that changes one, and the name they hash to."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""Emotion names in the order of RAVDESS' third field; the index of a name is its label."""

CLEAN = "clean"
"""Name of the unaugmented variant, the only one that validation, test and inference see."""

NOISE = "noise"
VARIANT_KINDS = ("pitch", "stretch", NOISE)

LARGEST_NUMBER = 1e9
"""No setting read from a file may reach this: a damaged one would ask for absurd memory."""


def variant_names(count: int) -> tuple[str, ...]:
    """Names of the first ``count`` augmented variants: the kinds in turn, numbered after a round.

    >>> variant_names(4)
    ('pitch', 'stretch', 'noise', 'pitch-2')
    """
    rounds = [divmod(number, len(VARIANT_KINDS)) for number in range(count)]
    return tuple(VARIANT_KINDS[kind] + (f"-{turn + 1}" if turn else "") for turn, kind in rounds)


def canonical_json(settings: dict) -> str:
    """Write settings with sorted keys and no spaces."""
    return json.dumps(settings, sort_keys=True, separators=(",", ":"))


def digest_of(settings: dict) -> str:
    """Sixteen hexadecimal digits that name settings, of this version's spec or of another's."""
    return hashlib.sha256(canonical_json(settings).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class FeatureSpec:
    """Settings that change a cached number, and nothing else.

    Parameters
    ----------
    sample_rate_hz
        Rate all sound is resampled to.
    mfcc_count, mfcc_columns
        Height and width of the MFCC image.
    fft_samples
        Length of the analysis frame of the short-time Fourier transform.
    mel_scale
        ``"htk"`` tells low frequencies apart, where harmonics of a voice lie, better than
        ``"slaney"``, librosa's default.
    fmax_hz
        Upper end of the mel bands, at most half of the sample rate.
    window_seconds
        Stretch of a clip that is heard and seen. The hop length follows from it.
    window_placement
        ``"voice"`` puts the window where the voice is, ``"start"`` at the clip's first sample.
    voice_threshold_db
        Sound this far below the clip's loudest frame is not voice.
    frame_count, frame_size_px
        Number of pictures of a window, and the side of each.
    frame_sampling
        ``"spread"`` takes pictures evenly by presentation time from a stretch around the window's
        middle, ``"consecutive"`` the first ones from its start.
    frames_margin
        Length of that stretch as a multiple of the window's: a face shows an emotion before and
        after the voice does.
    decode
        ``"reference"`` decodes only the frames of a video that others refer to, ``"full"`` all.
    crop
        ``"face"`` cuts a square around the face, ``"whole"`` squeezes the whole picture.
    face_margin
        Side of the cut square as a multiple of the detected face's side.
    face_detector
        The OpenCV cascade that finds faces.
    variants
        Names of the augmented variants cached beside ``"clean"``.
    seed
        Enters the randomness of every variant.
    revision
        Raised by hand when code changes numbers that no other field describes.
    """

    sample_rate_hz: int = 22_050
    mfcc_count: int = 40
    mfcc_columns: int = 44
    fft_samples: int = 2048
    mel_scale: str = "htk"
    fmax_hz: float = 8000.0
    window_seconds: float = 2.56
    window_placement: str = "voice"
    voice_threshold_db: float = 30.0
    frame_count: int = 20
    frame_size_px: int = 112
    frame_sampling: str = "spread"
    frames_margin: float = 1.4
    decode: str = "reference"
    crop: str = "face"
    face_margin: float = 1.2
    face_detector: str = "haarcascade_frontalface_alt2"
    variants: tuple[str, ...] = variant_names(3)
    seed: int = 0
    revision: int = 2

    @classmethod
    def as_published(cls, **changes: object) -> FeatureSpec:
        """Build the commonly published recipe, for comparison.

        The first 44 columns at librosa's default hop of 512 (1.02 s) and with its default mel
        bands, the first 20 frames, and the whole picture.
        """
        published: dict[str, object] = {
            "mel_scale": "slaney",
            "fmax_hz": 22_050 / 2,
            "window_seconds": 44 * 512 / 22_050,
            "window_placement": "start",
            "frame_sampling": "consecutive",
            "frames_margin": 1.0,
            "decode": "full",
            "crop": "whole",
        }
        return cls(**(published | changes))  # type: ignore[arg-type]

    @property
    def hop_samples(self) -> int:
        """Hop length in samples that makes ``mfcc_columns`` columns span the window."""
        return max(1, round(self.window_seconds * self.sample_rate_hz / self.mfcc_columns))

    @property
    def window_samples(self) -> int:
        """Length of the window in samples at ``sample_rate_hz``."""
        return self.hop_samples * self.mfcc_columns

    @property
    def mfcc_shape(self) -> tuple[int, int, int]:
        """Shape of one cached MFCC image."""
        return (self.mfcc_count, self.mfcc_columns, 1)

    @property
    def frames_shape(self) -> tuple[int, int, int, int]:
        """Shape of one cached frame tensor."""
        return (self.frame_count, self.frame_size_px, self.frame_size_px, 3)

    @property
    def mfcc_bytes(self) -> int:
        """Bytes of one cached MFCC image, float32."""
        return 4 * math.prod(self.mfcc_shape)

    @property
    def frames_bytes(self) -> int:
        """Bytes of one cached frame tensor, uint8."""
        return math.prod(self.frames_shape)

    @property
    def row_bytes(self) -> int:
        """Bytes that one row's tensors take in a shard."""
        return self.mfcc_bytes + self.frames_bytes

    @property
    def row_names(self) -> tuple[str, ...]:
        """Variants of each clip in the order of its rows, the clean one first."""
        return (CLEAN, *self.variants)

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that name the cache of this spec."""
        return digest_of(dataclasses.asdict(self))

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces; equal specs give equal text."""
        return canonical_json(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> FeatureSpec:
        """Read back what :meth:`to_json` wrote.

        Raises
        ------
        ValueError
            If the text does not hold exactly this version's fields, each of its own type, with
            numbers above 0 (the seed may be 0).
        """
        values = json.loads(text)
        fields = {field.name: field.default for field in dataclasses.fields(cls)}
        if not isinstance(values, dict):
            raise ValueError(f"expected a spec, got {type(values).__name__}")
        if values.keys() != fields.keys():
            missing, unknown = fields.keys() - values.keys(), values.keys() - fields.keys()
            raise ValueError(
                f"expected the fields of this version's spec, got {len(missing)} missing "
                f"{sorted(missing)[:3]} and {len(unknown)} unknown {sorted(unknown)[:3]}"
            )
        if isinstance(values["variants"], list):
            values["variants"] = tuple(values["variants"])
        for name, default in fields.items():
            value, kind = values[name], type(default)
            if type(value) is not kind:
                raise ValueError(f"expected {kind.__name__} for {name}, got {value!r}")
            if kind is tuple and not all(type(variant) is str for variant in value):
                raise ValueError(f"expected names for {name}, got {value!r}")
            is_seed_zero = name == "seed" and value == 0
            if kind in (int, float) and not (0 < value < LARGEST_NUMBER or is_seed_zero):
                raise ValueError(f"expected a number above 0 for {name}, got {value!r}")
        return cls(**values)
