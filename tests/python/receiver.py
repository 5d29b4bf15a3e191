"""An HTTP endpoint inside the test: keeps what is posted to it and answers as told."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable


@dataclass(frozen=True)
class Post:
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        return json.loads(self.raw)


class Receiver:
    """Answers with the status that `answer` gives for the number of the post, from 0."""

    def __init__(self, answer: Callable[[int], int] = lambda _: 200) -> None:
        self.answer = answer
        self.posts: list[Post] = []
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status = receiver._take(Post(headers, raw))
                answer = b'{"ack": true}'
                self.send_response(status)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _take(self, post: Post) -> int:
        with self._lock:
            self.posts.append(post)
            return self.answer(len(self.posts) - 1)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/intents"

    def of(self, intent_id: str) -> list[Post]:
        with self._lock:
            return [post for post in self.posts if post.body["intent_id"] == intent_id]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
