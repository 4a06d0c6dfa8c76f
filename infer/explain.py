"""Where the model looks: Grad-CAM over the frames and over the MFCC image of a prediction.

Needs Keras, and with it TensorFlow: gradients are not in the exported graph.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

# Before PyAV, see infer/__init__.py.
import cv2
import numpy as np
from numpy.typing import NDArray

from infer.prediction.model import Model
from infer.prediction.predict import Analysis, Options
from infer.prediction.reference import References
from infer.prediction.results import WindowPrediction
from infer.reading.ahead import ahead
from infer.reading.recording import Recording
from infer.reading.windows import FRAMES_AHEAD
from pipeline import atomic
from pipeline.console import Parser, run
from pipeline.errors import InputError
from pipeline.media import video
from pipeline.spec import EMOTIONS
from train import description, runtime
from train.heads import INPUTS, TENSORS

if TYPE_CHECKING:
    import keras

Tensors = Mapping[str, NDArray]

PROG = "python -m infer.explain"

SHOWN_FRAMES = 6
"""Of a window, in a figure."""

LOGITS = "logits"
"""What the names of outputs end in that are logits of emotions."""


def maps(network: keras.Model, tensors: Tensors, label: int) -> dict[str, NDArray[np.float32]]:
    """Say how much each place of the inputs speaks for an emotion.

    Parameters
    ----------
    network
        A trained model, whose layers ``"audio_branch"`` and ``"video_branch"`` are its branches.
    tensors
        Its inputs, one row each.
    label
        Index of the emotion.

    Returns
    -------
    dict of str to ndarray
        Of each branch whose input is not all zeros, in [0, 1], 1 at the strongest place:
        ``"audio"`` (mfcc_count, mfcc_columns), ``"video"`` (frame_count, size, size).

    Notes
    -----
    Selvaraju et al. 2017, "Grad-CAM: visual explanations from deep networks via gradient-based
    localization", at the last convolution over both of space's, or time's and frequency's, axes.
    """
    found = {}
    for name, tensor in INPUTS.items():
        if not np.any(tensors[tensor]):
            continue
        branch = network.get_layer(f"{name}_branch")
        answer = gradcam(branch, {key: tensors[key] for key in branch.input}, label)
        shape = tensors[tensor].shape[1:]
        if name == "audio":
            # Branches see (time, coefficients).
            found[name] = enlarged(answer[0].T, shape[:2])
        else:
            # Fewer instants than frames where the branch has pooled time.
            flat = answer.reshape(len(answer), -1)
            instants = enlarged(flat, (shape[0], flat.shape[1])).reshape(-1, *answer.shape[1:])
            found[name] = np.stack([enlarged(frame, shape[1:3]) for frame in instants])
        strongest = found[name].max()
        found[name] = found[name] / strongest if strongest > 0 else found[name]
    return found


def gradcam(branch: keras.Model, tensors: Tensors, label: int) -> NDArray[np.float32]:
    """Weigh the feature maps of a branch's last convolution by what they add to a logit.

    Returns
    -------
    ndarray of float32, shape (maps, height, width)
        0 or more; as many maps as the convolution is given for one row.
    """
    import keras
    import tensorflow as tf

    # The mean of several encoders' logits passes on no gradient; their own do.
    logits = [value for name, value in branch.output.items() if name.endswith(LOGITS)]
    part = keras.Model(branch.input, [last_convolution(branch).output, *logits])
    with tf.GradientTape() as tape:
        features, *answers = part(dict(tensors), training=False)
        score = sum(answer[0, label] for answer in answers)
    gradient = tape.gradient(score, features)
    weights = tf.reduce_mean(gradient, axis=(0, 1, 2), keepdims=True)
    return tf.nn.relu(tf.reduce_sum(weights * features, axis=-1)).numpy()


def last_convolution(branch: keras.Model) -> keras.layers.Layer:
    """Return the last layer that convolves over two axes.

    Raises
    ------
    InputError
        If there is none.
    """
    import keras

    for layer in reversed(branch.layers):
        if isinstance(layer, keras.layers.Conv2D) and min(layer.kernel_size) > 1:
            return layer
    raise InputError(
        f"expected a convolution over two axes in the branch {branch.name}, got none; "
        "this model cannot be explained"
    )


def enlarged(values: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Interpolate a map to (height, width)."""
    return cv2.resize(values, shape[::-1], interpolation=cv2.INTER_LINEAR)


def png_bytes(tensors: Tensors, found: Mapping[str, NDArray[np.float32]], title: str) -> bytes:
    """Draw frames and the MFCC image of one row with their maps over them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, parse_math=False)
    (upper,), (lower,) = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.3))
    frames = tensors["frames"][0]
    places = np.linspace(0, len(frames) - 1, SHOWN_FRAMES).round().astype(int)
    for axes, place in zip(upper.subplots(1, SHOWN_FRAMES), places, strict=True):
        axes.imshow(frames[place])
        if "video" in found:
            axes.imshow(found["video"][place], cmap="inferno", alpha=0.45, vmin=0, vmax=1)
        axes.set_axis_off()
    axes = lower.subplots()
    axes.imshow(tensors["mfcc"][0, ..., 0], aspect="auto", origin="lower", cmap="gray")
    if "audio" in found:
        axes.imshow(
            found["audio"],
            aspect="auto",
            origin="lower",
            cmap="inferno",
            alpha=0.45,
            vmin=0,
            vmax=1,
        )
    axes.set_xlabel("column of the window")
    axes.set_ylabel("coefficient")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()


def window_tensors(
    model: Model,
    recording: Recording,
    wanted: WindowPrediction,
    references: References | None = None,
    every_frame: bool = False,
) -> Tensors:
    """Make the inputs that a prediction was made from, one row each.

    Parameters
    ----------
    model, recording
        The model, and the recording opened anew.
    wanted
        The prediction.
    references
        What it was made with.
    every_frame
        Whether every frame of the video was decoded for it.
    """
    rows: list[dict[str, NDArray]] = []

    def keep(tensors: Tensors) -> dict[str, NDArray[np.float32]]:
        rows.append(dict(tensors))
        return model.answer(tensors)

    options, coming = Options(), None
    if every_frame and recording.video is not None:
        untimed = model.spec.untimed_frame_seconds
        frames = video.timed_frames(
            recording.video,
            0.0,
            options.threads,
            untimed_seconds=untimed,
            damage=recording.damage,
        )
        coming = ahead(frames, FRAMES_AHEAD)
    for made in Analysis(replace(model, answer=keep), recording, options, references, coming):
        for number, window in enumerate(made):
            same = window.start_seconds == wanted.start_seconds
            if same and window.track == wanted.track:
                return {name: values[number : number + 1] for name, values in rows[-1].items()}
    raise InputError(f"expected the window again in {recording.path}, got another recording")


def load_network(folder: Path) -> keras.Model:
    """Load the Keras model, which can be differentiated.

    Raises
    ------
    InputError
        If there is none.
    """
    description.read(folder)
    runtime.start_tensorflow()
    from train import artefact

    return artefact.load(folder).model


def explain_cache(model: Path, cache: Path) -> list[Path]:
    """Write a figure of each emotion's surest row among the first cached ones into ``report/``.

    Returns
    -------
    list of Path
        The figures; an emotion that no row is taken for has none.
    """
    network = load_network(model)
    from train.export import cached_rows

    described, spec = description.read(model)
    if set(network.input) != set(TENSORS):
        raise InputError(
            f"expected a model without a speaker reference in {model}, got one that compares with "
            f"{described['settings'].get('speaker_reference')} clips; explain a recording with "
            "'make infer EXPLAIN=1'"
        )
    tensors, label = cached_rows(cache, spec.digest)
    fused = np.asarray(network(tensors, training=False)["fused"])
    written = []
    for number, emotion in enumerate(EMOTIONS):
        own = np.flatnonzero(label == number)
        if not own.size:
            continue
        row = own[fused[own, number].argmax()]
        one = {name: values[row : row + 1] for name, values in tensors.items()}
        said = f"{emotion}: {100 * fused[row, number]:.0f} %"
        path = model / "report" / f"explain-{emotion}.png"
        path.parent.mkdir(exist_ok=True)
        atomic.write_durably(path, png_bytes(one, maps(network, one, number), said))
        written.append(path)
    return written


def parser(prog: str = PROG) -> argparse.ArgumentParser:
    """Describe every option."""
    top = Parser(
        prog=prog,
        description="Draw where the model looks in a cached clip of each emotion.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    top.add_argument("--model", type=Path, default=Path("data/model"), metavar="DIR", help="folder")
    top.add_argument("--cache", type=Path, default=Path("data/cache"), metavar="DIR", help="rows")
    return top


def main(words: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Parse the command line, or other words, and run it."""

    def command() -> int:
        arguments = parser(prog).parse_args(words)
        print("\n".join(map(str, explain_cache(arguments.model, arguments.cache))))
        return 0

    return run(command)


if __name__ == "__main__":
    sys.exit(main())
