"""A small TCP proxy in front of a cluster: each connection goes to a node whose `/readyz` answers 200."""

from __future__ import annotations

import asyncio
import threading
from urllib.parse import urlsplit

from cluster import until

PROBE_SECONDS = 0.1
PROBE_TIMEOUT = 1.0
# A connection waits this long for a ready node before it is closed, as a load balancer's queue does.
PATIENCE_SECONDS = 5.0


class Proxy:
    """Runs on a thread of its own; `url` is where clients connect."""

    def __init__(self, urls: list[str]) -> None:
        self._nodes = [(parts.hostname or "127.0.0.1", parts.port or 80) for parts in map(urlsplit, urls)]
        self._ready: list[bool] = [False] * len(self._nodes)
        self._turn = 0
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self.url = ""

    def start(self) -> "Proxy":
        self._thread.start()
        if not self._started.wait(10):
            raise AssertionError("the proxy did not start")
        until("a ready node behind the proxy", lambda: any(self._ready))
        return self

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        probes = [self._loop.create_task(self._probe(index)) for index in range(len(self._nodes))]
        self._started.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*probes, return_exceptions=True))
        self._loop.close()

    async def _probe(self, index: int) -> None:
        while True:
            try:
                self._ready[index] = await asyncio.wait_for(self._ask(index), PROBE_TIMEOUT)
            except (OSError, asyncio.TimeoutError, ValueError, IndexError):
                self._ready[index] = False
            await asyncio.sleep(PROBE_SECONDS)

    async def _ask(self, index: int) -> bool:
        host, port = self._nodes[index]
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(b"GET /readyz HTTP/1.1\r\nhost: proxy\r\nconnection: close\r\n\r\n")
            status = await reader.readline()
            return int(status.split()[1]) == 200
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = await self._connect()
        if upstream is None:
            writer.close()
            return
        up_reader, up_writer = upstream
        pumps = [
            asyncio.create_task(pump(reader, up_writer)),
            asyncio.create_task(pump(up_reader, writer)),
        ]
        # Either side closing ends the pair: a half-open connection to a dead node would hang the client.
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            # The proxy stops; asyncio would report a cancelled handler as an error.
            return
        finally:
            for task in pumps:
                task.cancel()
            for each in (writer, up_writer):
                each.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        # In turn, so that most requests meet a node that leads nothing of theirs.
        self._turn += 1
        order = [(self._turn + i) % len(self._nodes) for i in range(len(self._nodes))]
        end = self._loop.time() + PATIENCE_SECONDS
        while self._loop.time() < end:
            for index in order:
                if not self._ready[index]:
                    continue
                try:
                    return await asyncio.open_connection(*self._nodes[index])
                except OSError:
                    self._ready[index] = False
            await asyncio.sleep(PROBE_SECONDS)
        return None


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        return
