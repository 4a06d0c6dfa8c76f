"""The page on the loopback address, its files in a folder that goes with it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from infer.app import page
from infer.app.guard import SameOriginOnly
from infer.local import HOST, LOCAL_NAMES
from infer.predictor import Predictor
from pipeline.errors import InputError

MOST_WAITING = 16
"""Recordings that wait for their turn; one is read at a time."""


@contextlib.contextmanager
def serving(
    predictor: Predictor, port: int | None = None, limits: page.Limits | None = None
) -> Iterator[str]:
    """Serve the page on this machine alone within the block.

    Parameters
    ----------
    predictor
        Answers.
    port
        Of the loopback address; None takes a free one.
    limits
        What is taken.

    Yields
    ------
    str
        Address of the page.

    Raises
    ------
    InputError
        If the port is taken.
    """
    limits = limits or page.Limits()
    with tempfile.TemporaryDirectory(prefix="emotions-") as folder:
        work = Path(folder)
        # Uploads go there, and with it when the page ends.
        os.environ["GRADIO_TEMP_DIR"] = str(work / "uploads")
        blocks = page.build(predictor, work, limits)
        blocks.queue(max_size=MOST_WAITING)
        try:
            _, address, _ = blocks.launch(
                server_name=HOST,
                server_port=port,
                prevent_thread_lock=True,
                quiet=True,
                share=False,
                inbrowser=False,
                ssr_mode=False,
                footer_links=[],
                allowed_paths=[str(work)],
                max_file_size=limits.bytes,
                theme=gr.themes.Base(
                    font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
                ),
                css=(page.HERE / "page.css").read_text(encoding="utf-8"),
                app_kwargs={
                    "middleware": [
                        Middleware(TrustedHostMiddleware, allowed_hosts=list(LOCAL_NAMES)),
                        Middleware(SameOriginOnly),
                    ]
                },
            )
        except (OSError, OverflowError) as error:
            raise InputError(
                f"expected a free port, got {port}: {error}; name another with --port"
            ) from error
        try:
            yield address
        finally:
            blocks.close(verbose=False)
