"""Command line of inference: ``python -m infer VIDEO``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

# Before PyAV, which 'pipeline' imports: loaded after it, OpenCV's windows hang on Linux, because
# both bring X libraries of their own (PyAV issue 1050).
import cv2

from pipeline.console import Parser, run
from pipeline.errors import InputError
from pipeline.media import container, video
from train import runtime


def parser() -> argparse.ArgumentParser:
    """Describe every option."""
    top = Parser(
        prog="python -m infer",
        description="Predict the emotion in a recording and show it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    top.add_argument(
        "video", type=Path, metavar="VIDEO", help="recording with pictures, sound or both"
    )
    top.add_argument(
        "--audio",
        type=Path,
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="sound of the recording (default: the video's own track)",
    )
    top.add_argument(
        "--model", type=Path, default=Path("data/model"), metavar="DIR", help="folder of the model"
    )
    top.add_argument(
        "--out",
        type=Path,
        default=Path("data/out"),
        metavar="DIR",
        help="folder for the annotated video and the predictions",
    )
    top.add_argument(
        "--min-confidence",
        type=float,
        default=0.0,
        metavar="P",
        help="probability below which the answer is 'unsure', 0 to 1; 0 always answers",
    )
    top.add_argument(
        "--calibrate",
        type=Path,
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="a few seconds of the same person at rest, for a model trained with --calibrated "
        "(default: the person is unknown)",
    )
    top.add_argument("--show", action="store_true", help="play the result in a window")
    return top


def infer(arguments: argparse.Namespace) -> int:
    """Predict, write, print."""
    if not 0 <= arguments.min_confidence <= 1:
        raise InputError(
            f"expected a smallest confidence of 0 to 1, got {arguments.min_confidence}; "
            "it is a probability"
        )
    sound = getattr(arguments, "audio", None)
    container.probe(arguments.video)
    if sound is not None and not container.probe(sound).has_audio:
        raise InputError(f"expected sound in {sound}, got no audio stream; name another file")
    neutral = getattr(arguments, "calibrate", None)
    if neutral is not None:
        container.probe(neutral)
    stem = arguments.out / arguments.video.stem
    target = stem.with_name(f"{stem.name}.mp4")
    if target.exists() and any(
        target.samefile(source)
        for source in (arguments.video, sound, neutral)
        if source is not None
    ):
        raise InputError(
            f"expected another output than the input {arguments.video}, got the same; "
            "name another folder with --out"
        )
    if arguments.show:
        refuse_without_display()
    runtime.start_tensorflow()
    from infer import annotate, answers, predict, recording, results
    from train import artefact

    trained = artefact.load(arguments.model)
    opened = recording.open_recording(arguments.video, sound, trained.spec)
    resting = neutral and recording.open_recording(neutral, None, trained.spec)
    person = predict.at_rest(resting, trained)
    prediction = predict.predict(opened, trained, arguments.min_confidence, person)
    arguments.out.mkdir(parents=True, exist_ok=True)
    annotate.render(opened, prediction, target, trained.spec)
    written = [target, *results.write_predictions(prediction, opened, stem, neutral)]

    likeliest = answers.named(prediction.probabilities)
    said = f"{likeliest} {100 * prediction.probabilities.max():.0f} %"
    if prediction.emotion == answers.UNSURE:
        said = f"{answers.UNSURE} ({said})"
    print(
        f"{arguments.video.name}: {said} from {prediction.basis}, "
        f"{opened.duration_seconds:.1f} s in {len(prediction.windows)} windows"
    )
    for part in ("voice", "face"):
        answer = results.answered(prediction.mean(part))
        if answer:
            print(f"  {part} alone: {answer['emotion']} {100 * answer['probability']:.0f} %")
    if person is not None:
        print(f"  read against {neutral.name}: the person at rest")
    for head in sorted({"audio", "video"} - set(trained.learned)):
        print(f"  the model has learned nothing from {head}: it is left out")
    for note in answers.notes(opened, prediction.windows):
        print(f"  {note}")
    print("\n".join(map(str, written)))
    if arguments.show:
        play(target)
    return 0


def refuse_without_display() -> None:
    """Raise where no window can be opened; Qt would end the process without a word."""
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        raise InputError("expected a display for --show, got none; open the written mp4 instead")


def play(path: Path) -> None:
    """Show a video in a window at its own pace, until its end or a key press."""
    started = time.monotonic()
    for seconds, picture in video.every_rgb_frame(path, 1280):
        cv2.imshow(path.name, picture[..., ::-1])
        left = started + seconds - time.monotonic()
        if cv2.waitKey(max(1, round(1000 * left))) >= 0:
            break
    cv2.destroyAllWindows()


def main() -> int:
    """Parse the command line and run it."""
    arguments = parser().parse_args()
    return run(lambda: infer(arguments))


if __name__ == "__main__":
    sys.exit(main())
