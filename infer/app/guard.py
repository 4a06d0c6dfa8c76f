"""Keeps the page to itself: no other site may use it, and browsers may ask no other address."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infer.local import is_foreign

POLICY = "; ".join(
    (
        "default-src 'self' data: blob:",
        # Gradio compiles the templates of its components in the browser.
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)


class SameOriginOnly:
    """Refuses other sites' requests, and adds the policy to every answer.

    Parameters
    ----------
    app
        What answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = POLICY
                headers["Referrer-Policy"] = "no-referrer"
            await send(message)

        foreign = scope["type"] == "http" and is_foreign(scope["method"], Headers(scope=scope))
        app = PlainTextResponse("another site may not ask", 403) if foreign else self.app
        await app(scope, receive, guarded)
