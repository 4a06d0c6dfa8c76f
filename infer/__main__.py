"""Command line of inference: ``python -m infer VIDEO...``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

# Before PyAV, see infer/__init__.py.
import cv2

from infer import batch
from infer.batch import Done
from infer.output import formats
from infer.prediction import smooth
from infer.prediction.model import BACKENDS, open_model
from infer.prediction.predict import Options
from infer.prediction.results import Result
from infer.prediction.smooth import UNSURE, named
from infer.stop import Stop
from pipeline.console import Parser, add_verbose, run, show_log
from pipeline.errors import InputError
from pipeline.media import container, video

PROG = "python -m infer"


def parser(prog: str = PROG) -> argparse.ArgumentParser:
    """Describe every option."""
    top = Parser(
        prog=prog,
        description="Predict the emotions in recordings and show them.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    top.add_argument(
        "paths",
        type=Path,
        nargs="+",
        metavar="VIDEO",
        help="recordings with frames, sound or both, and folders of them",
    )
    top.add_argument(
        "--audio",
        type=Path,
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="sound of the recording (default: the video's own track)",
    )
    top.add_argument(
        "--reference",
        type=Path,
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="another recording of the same person, for a model with a speaker reference (default: "
        "the recording itself, where the model allows it)",
    )
    top.add_argument(
        "--model", type=Path, default=Path("data/model"), metavar="DIR", help="folder of the model"
    )
    top.add_argument(
        "--out", type=Path, default=Path("data/out"), metavar="DIR", help="folder for the results"
    )
    kind = top.add_mutually_exclusive_group()
    kind.add_argument(
        "--no-video",
        dest="kind",
        action="store_const",
        const=batch.NONE,
        default=batch.VIDEO,
        help="predictions alone, in half the time (default: an annotated mp4 is written)",
    )
    kind.add_argument(
        "--overlay",
        dest="kind",
        action="store_const",
        const=batch.OVERLAY,
        help="an mkv with the video as it is and labels as subtitles, instead of an annotated mp4",
    )
    top.add_argument(
        "--formats",
        type=formats.formats_of,
        default=",".join(formats.DEFAULT_FORMATS),
        metavar="NAMES",
        help=f"out of {', '.join(formats.FORMATS)}, separated by commas, or all",
    )
    top.add_argument(
        "--explain",
        action="store_true",
        help="draw where the model looks into VIDEO-explain.png; needs TensorFlow",
    )
    top.add_argument(
        "--min-confidence",
        type=float,
        default=0.0,
        metavar="P",
        help="probability below which the answer is 'unsure', 0 to 1; 0 always answers",
    )
    top.add_argument(
        "--smooth",
        type=float,
        default=smooth.SECONDS,
        metavar="SECONDS",
        help="time constant of the filter against flicker; 0 shows every window as it is",
    )
    top.add_argument("--backend", choices=BACKENDS, default="auto", help="what runs the model")
    top.add_argument("--show", action="store_true", help="play the result in a window")
    add_verbose(top)
    return top


def infer(arguments: argparse.Namespace) -> int:
    """Predict, write, print."""
    options = Options(arguments.min_confidence, arguments.smooth)
    sound = getattr(arguments, "audio", None)
    reference = getattr(arguments, "reference", None)
    jobs = batch.jobs_of(arguments.paths, sound, arguments.out, reference)
    if len(jobs) == 1:
        container.probe(jobs[0].path)
    if reference is not None:
        container.probe(reference)
    if sound is not None and not container.probe(sound).has_audio:
        raise InputError(f"expected sound in {sound}, got no audio stream; name another file")
    if arguments.show:
        refuse_without_display("open the written file instead")
        if arguments.kind == batch.NONE and not container.probe(jobs[-1].path).has_video:
            raise InputError(
                f"expected video in {jobs[-1].path} for --show, got none; leave --no-video or "
                "--show away"
            )
    model = open_model(arguments.model, arguments.backend)
    outputs = batch.Outputs(arguments.kind, arguments.formats, arguments.explain)
    stop, failed, last = Stop(), [], None
    with stop.on_signals():
        for done in batch.run(model, jobs, options, outputs, stop):
            if done.result is None and len(jobs) == 1:
                raise InputError(done.error)
            print_done(done)
            failed += [done.job.path] * (done.result is None)
            last = done
    if len(jobs) > 1:
        print(batch.common(jobs) / batch.SUMMARY_NAME)
    if failed:
        print(f"{len(failed)} of {len(jobs)} failed: {', '.join(map(str, failed))}")
        return 1
    if arguments.show and last is not None:
        play(next((file for file in last.files if file.suffix in (".mp4", ".mkv")), last.job.path))
    return 0


def print_done(done: Done) -> None:
    """Print what became of a recording."""
    if done.result is None:
        print(f"error: {done.error}", file=sys.stderr)
        return
    print("\n".join([*lines(done.result), *map(str, done.files)]), flush=True)


def lines(result: Result) -> list[str]:
    """Say what was found in a recording."""
    likeliest = f"{named(result.probabilities)} {100 * result.probability:.0f} %"
    said = f"{UNSURE} ({likeliest})" if result.emotion == UNSURE else likeliest
    count = len({window.start_seconds for window in result.windows})
    found = [
        f"{result.file}: {said} from {result.basis}, {result.duration_seconds:.1f} s in "
        f"{count} windows"
    ]
    if len(result.tracks) > 1:
        for track in result.tracks:
            answer = result.described(track)
            found.append(
                f"  face {track.number}: {answer['emotion']} {100 * answer['probability']:.0f} %, "
                f"{track.times[0]:.1f} to {track.times[-1]:.1f} s"
            )
    for part, values in (("voice", result.voice), ("face", result.face)):
        if values is not None:
            found.append(f"  {part} alone: {named(values)} {100 * values.max():.0f} %")
    return found + [f"  {note}" for note in result.notes]


def refuse_without_display(remedy: str) -> None:
    """Raise where no window can be opened; Qt would end the process without a word."""
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        raise InputError(f"expected a display for a window, got none; {remedy}")


def play(path: Path) -> None:
    """Show a video in a window at its own pace, until its end or a key press."""
    started = time.monotonic()
    for seconds, picture in video.every_rgb_frame(path, 1280):
        cv2.imshow(path.name, picture[..., ::-1])
        left = started + seconds - time.monotonic()
        if cv2.waitKey(max(1, round(1000 * left))) >= 0:
            break
    cv2.destroyAllWindows()


def main(words: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Parse the command line, or other words, and run it."""

    def command() -> int:
        arguments = parser(prog).parse_args(words)
        show_log(arguments.verbose)
        return infer(arguments)

    return run(command, "the same command begins anew")


if __name__ == "__main__":
    sys.exit(main())
