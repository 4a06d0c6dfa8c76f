"""Command line of live prediction: ``python -m infer.live SOURCE``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Before PyAV, see infer/__init__.py.
import cv2

from infer.__main__ import refuse_without_display
from infer.live import serve
from infer.live.session import Live, Slot
from infer.prediction import smooth
from infer.prediction.model import BACKENDS, open_model
from infer.prediction.predict import Options
from infer.prediction.reference import reference_of
from pipeline.console import Parser, run

PROG = "python -m infer.live"


def parser(prog: str = PROG) -> argparse.ArgumentParser:
    """Describe every option."""
    top = Parser(
        prog=prog,
        description="Predict the emotions of whoever is in front of a camera.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    top.add_argument(
        "source",
        nargs="?",
        default="0",
        metavar="SOURCE",
        help="number of a camera, address of a stream (rtsp://...), or a file, in real time",
    )
    top.add_argument("--model", type=Path, default=Path("data/model"), metavar="DIR", help="folder")
    top.add_argument(
        "--serve",
        type=int,
        metavar="PORT",
        default=argparse.SUPPRESS,
        help="serve a page on this port of this machine (default: draw in a window)",
    )
    top.add_argument(
        "--reference",
        type=Path,
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="a recording of the same person, for a model with a speaker reference (default: none)",
    )
    top.add_argument("--no-sound", action="store_true", help="leave the microphone alone")
    top.add_argument("--min-confidence", type=float, default=0.0, metavar="P", help="else unsure")
    top.add_argument(
        "--smooth", type=float, default=smooth.SECONDS, metavar="SECONDS", help="time constant"
    )
    top.add_argument("--backend", choices=BACKENDS, default="auto", help="what runs the model")
    return top


def live(arguments: argparse.Namespace) -> int:
    """Run until the source ends, the window is closed, or Ctrl-C."""
    port = getattr(arguments, "serve", None)
    options = Options(arguments.min_confidence, arguments.smooth)
    if port is None:
        refuse_without_display("open the page of --serve 8000 instead")
    model = open_model(arguments.model, arguments.backend)
    frames, answers = Slot(), Slot()

    def end() -> None:
        frames.close()
        answers.close()

    running = Live(
        model,
        arguments.source,
        options,
        on_answer=answers.put,
        on_frame=lambda seconds, frame: frames.put(frame),
        on_end=end,
        microphone=not arguments.no_sound,
        references=reference_of(model, None, None, getattr(arguments, "reference", None)),
    )
    for note in running.notes:
        print(note)
    try:
        if port is None:
            running.start()
            show(running, frames)
            running.stop()
            running.wait()
        else:
            with serve.serving(port, frames, answers, running.notes) as address:
                print(f"serving {address}", flush=True)
                running.start()
                running.wait()
    finally:
        running.stop()
        if running.figures.captured:
            print(running.figures.text())
    return 0


def show(running: Live, frames: Slot) -> None:
    """Show frames in a window until a key is pressed or it is closed."""
    title = "emotions: any key ends"
    for frame in frames.newer():
        cv2.imshow(title, frame.to_ndarray(format="bgr24"))
        # The window is closed while it waits, and the next frame would open another one.
        pressed = cv2.waitKey(1) >= 0
        if pressed or cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) < 1:
            break
    cv2.destroyAllWindows()


def main(words: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Parse the command line, or other words, and run it."""
    return run(lambda: live(parser(prog).parse_args(words)), "the same command begins anew")


if __name__ == "__main__":
    sys.exit(main())
