"""A loopback server that speaks Zenodo's and GitHub's API, and misbehaves on demand."""

import hashlib
import http.server
import io
import json
import re
import socket
import struct
import threading
import zipfile


class Shelf:
    """What a server holds and does.

    Parameters
    ----------
    files
        Content by path.
    faults
        By path, functions that answer the next requests instead; each gets the handler and the
        content.
    requests
        Path and headers of every request so far.
    """

    def __init__(self):
        self.files, self.faults, self.requests = {}, {}, []
        self.ranges, self.etags = True, True
        self.url = ""

    def record(self, number, files, version="1.0.0"):
        """Publish files as a Zenodo record."""
        for name, content in files.items():
            self.files[f"/files/{name}"] = content
        listing = [
            {
                "key": name,
                "size": len(content),
                "checksum": f"md5:{hashlib.md5(content).hexdigest()}",
                "links": {"self": f"{self.url}/files/{name}"},
            }
            for name, content in files.items()
        ]
        answer = {"metadata": {"version": version}, "files": listing}
        self.files[f"/api/records/{number}"] = json.dumps(answer).encode()

    def repository(self, name, files, branch="master"):
        """Publish files as the large files of a GitHub repository."""
        folders = {}
        for path, content in files.items():
            folder, _, file = path.partition("/")
            folders.setdefault(folder, []).append(file)
            digest = hashlib.sha256(content).hexdigest()
            pointer = (
                f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\n"
                f"size {len(content)}\n"
            )
            self.files[f"/raw/{name}/{branch}/{path}"] = pointer.encode()
            self.files[f"/media/{name}/{branch}/{path}"] = content
        trees = f"/repos/{name}/git/trees"
        for folder, own in folders.items():
            entries = [{"path": file, "sha": file} for file in own]
            self.files[f"{trees}/sha-{folder}"] = json.dumps({"tree": entries}).encode()
        top = [{"path": folder, "sha": f"sha-{folder}"} for folder in folders]
        self.files[f"{trees}/{branch}"] = json.dumps({"tree": top}).encode()

    def fetched(self, name):
        """Where each request for a file of a record began."""
        found = []
        for path, headers in self.requests:
            if path == f"/files/{name}":
                found.append(int(re.findall(r"\d+", headers.get("Range", "bytes=0-"))[0]))
        return found


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers from a shelf."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        shelf = self.server.shelf
        shelf.requests.append((self.path, dict(self.headers)))
        content = shelf.files.get(self.path)
        waiting = shelf.faults.get(self.path)
        if waiting:
            waiting.pop(0)(self, content)
        elif content is None:
            status(404)(self, b"")
        else:
            self.answer(content)

    def answer(self, content, limit=None):
        """Send a file, or the range of it that is asked for; after ``limit`` bytes hang up."""
        shelf = self.server.shelf
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        start, asked = 0, self.headers.get("Range")
        if asked and shelf.ranges and self.headers.get("If-Range", etag) == etag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        if shelf.etags:
            self.send_header("ETag", etag)
        self.end_headers()
        self.wfile.write(content[start : len(content) if limit is None else start + limit])
        if limit is not None:
            hang_up(self)


class Server(http.server.ThreadingHTTPServer):
    """Says nothing about clients that hang up."""

    daemon_threads = True

    def handle_error(self, *_):
        pass


def hang_up(handler):
    """Reset the connection."""
    handler.wfile.flush()
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.close_connection = True
    handler.connection.close()
    handler.wfile, handler.rfile = io.BytesIO(), io.BytesIO()


def cut(after):
    """Fault: the connection ends after some bytes, having promised all."""
    return lambda handler, content: end_early(handler, content, after)


def end_early(handler, content, after):
    asked = handler.headers.get("Range")
    start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
    handler.send_response(206 if asked else 200)
    if asked:
        last = len(content) - 1
        handler.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
    handler.send_header("Content-Length", str(len(content) - start))
    handler.end_headers()
    handler.wfile.write(content[start : start + after])
    handler.close_connection = True


def status(code, **headers):
    """Fault: only a status and headers, such as ``Retry_After=3``."""

    def fault(handler, _):
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), str(value))
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return fault


def body(content, code=200, **headers):
    """Fault: another content."""

    def fault(handler, _):
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), str(value))
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return fault


def serve(shelf):
    """Start a server in a thread; returns what stops it."""
    server = Server(("127.0.0.1", 0), Handler)
    server.shelf = shelf
    shelf.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def stop():
        server.shutdown()
        server.server_close()

    return stop


def zipped(files, compression=zipfile.ZIP_DEFLATED):
    """Make an archive: content by name, or by ``ZipInfo``."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content, compress_type=compression)
    return held.getvalue()
