"""A TCP gate of ours between two processes: passes bytes on, until told to hurt them."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading


class Gates:
    """Gates on one event loop of their own. Thread-safe."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.all: list[Gate] = []

    def add(self, target: str) -> Gate:
        gate = Gate(target)
        asyncio.run_coroutine_threadsafe(gate.open(), self.loop).result(10)
        gate.gates = self
        self.all.append(gate)
        return gate

    def close(self):
        for gate in self.all:
            self.call(gate.shut)
        asyncio.run_coroutine_threadsafe(self._end_tasks(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)

    @staticmethod
    async def _end_tasks():
        tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def call(self, f, *args):
        async def run():
            return f(*args)

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)


class Gate:
    """`address` leads to `target`. On the loop's thread but for `hurt` and `heal`."""

    def __init__(self, target: str):
        host, port = target.rsplit(":", 1)
        self.target = (host, int(port))
        self.pairs: set[Pair] = set()
        self.way = "pass"
        self.delay = 0.0
        self.moving = asyncio.Event()
        self.moving.set()

    async def open(self):
        self.server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=1 << 16)
        self.address = "127.0.0.1:%d" % self.server.sockets[0].getsockname()[1]

    def shut(self):
        self.server.close()
        for pair in list(self.pairs):
            pair.reset()

    async def _accept(self, reader, writer):
        pair = Pair(self, reader, writer)
        self.pairs.add(pair)
        try:
            await pair.run()
        finally:
            self.pairs.discard(pair)

    # ---- from any thread

    def hurt(self, way: str, delay: float = 0.0):
        """cut: every connection is reset, new ones too; half: what goes one way is swallowed from now on;
        blackhole: nothing passes, nothing is closed; delay: everything is late."""
        self.gates.call(self._set, way, delay)

    def heal(self):
        self.gates.call(self._set, "pass", 0.0)

    def _set(self, way, delay):
        self.way, self.delay = way, delay
        if way == "blackhole":
            self.moving.clear()
        else:
            self.moving.set()
        if way in ("cut", "half"):
            for pair in list(self.pairs):
                pair.reset() if way == "cut" else pair.halve()


class Pair:
    def __init__(self, gate: Gate, reader, writer):
        self.gate, self.reader, self.writer = gate, reader, writer
        self.out = None
        self.halved = False

    async def run(self):
        if self.gate.way == "cut":
            return self.reset()
        try:
            back, self.out = await asyncio.open_connection(*self.gate.target, limit=1 << 16)
        except OSError:
            return self.reset()
        await asyncio.gather(self._pump(self.reader, self.out, False), self._pump(back, self.writer, True))

    async def _pump(self, source, sink, answers: bool):
        try:
            while data := await source.read(1 << 16):
                await self.gate.moving.wait()
                if self.gate.delay:
                    await asyncio.sleep(self.gate.delay)
                    await self.gate.moving.wait()
                if self.halved and answers:
                    continue
                sink.write(data)
                await sink.drain()
            sink.write_eof()
        except (OSError, RuntimeError):
            self.reset()

    def halve(self):
        self.halved = True

    def reset(self):
        for writer in (self.writer, self.out):
            if writer is None or writer.is_closing():
                continue
            sock = writer.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
