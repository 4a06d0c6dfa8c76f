"""A page for live answers: frames as MJPEG and answers as events, on this machine alone."""

from __future__ import annotations

import contextlib
import html
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

# Before PyAV, see infer/__init__.py.
import cv2

from infer.local import HOST, LOCAL_NAMES, is_foreign
from pipeline.errors import InputError

if TYPE_CHECKING:
    from infer.live.session import Slot
    from pipeline.media.video import Frame

BOUNDARY = "frame"

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Live</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px system-ui, sans-serif; margin: 1rem auto; max-width: 960px; padding: 0 1rem; }}
img {{ width: 100%; background: #222; }} li {{ color: #666; }}
</style></head><body>
<img src="/video" alt="live video">
<p id="answer">no answer yet</p><ul>{notes}</ul>
<script>
new EventSource("/events").onmessage = event => {{
  document.getElementById("answer").textContent = JSON.parse(event.data).map(face =>
    (face.track ? "face " + face.track + ": " : "") + face.label + " from " + face.basis
  ).join(", ");
}};
</script></body></html>
"""


@contextlib.contextmanager
def serving(port: int, frames: Slot, answers: Slot, notes: list[str]) -> Iterator[str]:
    """Serve within the block.

    Parameters
    ----------
    port
        Of the loopback address; 0 takes a free one.
    frames, answers
        The newest drawn frame and answer. A slow reader gets the newest again when it is done:
        frames are dropped, never queued.
    notes
        What to know about the answers.

    Yields
    ------
    str
        Address of the page.

    Raises
    ------
    InputError
        If the port is taken.
    """
    encoded = Encoded()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kinds = {"/": self.page, "/video": self.video, "/events": self.events}
            answer = kinds.get(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            if answer is None or headers.get("host", "").split(":")[0] not in LOCAL_NAMES:
                self.send_error(404)
                return
            if is_foreign("GET", headers):
                self.send_error(403)
                return
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                answer()

        def begin(self, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Cache-Control", "no-store")
            self.end_headers()

        def page(self) -> None:
            said = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
            self.begin("text/html; charset=utf-8")
            self.wfile.write(PAGE.format(notes=said).encode())

        def video(self) -> None:
            self.begin(f"multipart/x-mixed-replace; boundary={BOUNDARY}")
            for frame in frames.newer():
                content = encoded.jpeg(frame)
                head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}"
                self.wfile.write(f"{head}\r\n\r\n".encode() + content + b"\r\n")

        def events(self) -> None:
            self.begin("text/event-stream")
            for made in answers.newer():
                text = json.dumps([each.record() for each in made])
                self.wfile.write(f"data: {text}\n\n".encode())
                self.wfile.flush()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    try:
        server = ThreadingHTTPServer((HOST, port), Handler)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"expected a free port, got {port}: {error}; name another with --serve"
        ) from error
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


class Encoded:
    """The newest frame as JPEG: encoded once, however many watch.

    A frame must not be converted by two threads at once: FFmpeg's scaler, which it holds, crashes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frame: Frame | None = None
        self._content = b""

    def jpeg(self, frame: Frame) -> bytes:
        """Encode a frame, if it is another than the last."""
        with self._lock:
            if frame is not self._frame:
                picture = frame.to_ndarray(format="bgr24")
                quality = [cv2.IMWRITE_JPEG_QUALITY, 80]
                self._content = cv2.imencode(".jpg", picture, quality)[1].tobytes()
                self._frame = frame
            return self._content
