"""Peers as the Python prototype was: grpcio, stubs of the proto before its extension."""

from __future__ import annotations

import importlib
import sys
import tempfile
import threading
import uuid
from concurrent import futures
from pathlib import Path

import grpc
from grpc_tools import protoc

_SOURCE = Path(__file__).parents[1] / "legacy"


def _stubs():
    out = tempfile.mkdtemp(prefix="cy-llm-stubs-")
    status = protoc.main(["protoc", f"-I{_SOURCE}", f"--python_out={out}", f"--grpc_python_out={out}", "ai_service.proto"])
    assert status == 0, "protoc failed"
    sys.path.insert(0, out)
    return importlib.import_module("ai_service_pb2"), importlib.import_module("ai_service_pb2_grpc")


pb, rpc = _stubs()

LOADING = "[模型加载]"


def target(address: str) -> str:
    return address if not address.startswith("unix:") else "unix:" + address[len("unix:") :]


class Client:
    """What the prototype's gateway does: one request, half-close, all responses."""

    def __init__(self, address: str, token: str = ""):
        self.channel = grpc.insecure_channel(target(address))
        self.stub = rpc.AiInferenceStub(self.channel)
        self.training = rpc.AiTrainingStub(self.channel)
        self.metadata = (("authorization", f"Bearer {token}"),) if token else ()

    def request(self, prompt: str, model: str = "", max_tokens: int = 0, trace: str = "t-1", **generation):
        return pb.StreamPredictRequest(
            model_id=model, prompt=prompt, metadata=pb.StreamMetadata(trace_id=trace),
            generation=pb.GenerationParameters(max_new_tokens=max_tokens, **generation),
        )  # fmt: skip

    def stream(self, prompt: str, timeout: float = 60, **kw):
        return self.stub.StreamPredict(iter([self.request(prompt, **kw)]), metadata=self.metadata, timeout=timeout)

    def control(self, command: str, timeout: float = 60, **payload):
        return self.stub.Control(pb.ControlMessage(command=command, payload=payload), metadata=self.metadata, timeout=timeout)

    def health(self, timeout: float = 60):
        return self.stub.Health(pb.WorkerHealthRequest(trace_id="h"), timeout=timeout)

    def close(self):
        self.channel.close()


class Worker(rpc.AiInferenceServicer):
    """The prototype's worker. `script(request, context)` yields chunks, or aborts the call."""

    def __init__(self, script, token: str = "", models: tuple[str, ...] = ("default",)):
        self.script, self.token, self.models = script, token, models
        self.requests: list = []
        self.metadata: list[dict] = []
        self.cancelled = threading.Event()

    def _check(self, context):
        metadata = dict(context.invocation_metadata())
        self.metadata.append(metadata)
        if self.token and metadata.get("authorization") != f"Bearer {self.token}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "Invalid internal token")

    def StreamPredict(self, request_iterator, context):  # noqa: N802
        self._check(context)
        request = next(request_iterator, None)
        if request is None:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Empty request stream")
        self.requests.append(request)
        context.add_callback(lambda: None if context.code() == grpc.StatusCode.OK else self.cancelled.set())
        trace, index = request.metadata.trace_id, 0
        for chunk in self.script(request, context):
            yield pb.StreamPredictResponse(trace_id=trace, chunk=chunk, index=index)
            index += 1
        yield pb.StreamPredictResponse(trace_id=trace, end_of_stream=True, index=index, ttft_ms=12.5, tokens_per_sec=80)

    def Control(self, request, context):  # noqa: N802
        self._check(context)
        reply = {"status": "error", "message": f"Unknown command: {request.command}"}
        if request.command == "ping":
            reply = {"status": "ok", "message": "pong"}
        elif request.command == "list_models":
            reply = {"status": "ok", "models": ",".join(self.models)}
        return pb.ControlMessage(trace_id=request.trace_id or str(uuid.uuid4()), command=request.command + "_response", payload=reply)

    def Health(self, request, context):  # noqa: N802
        return pb.WorkerHealthResponse(healthy=True, metrics={"requests_inflight": "0", "backend": "nvidia"})


class Server:
    """Serves one servicer on a free TCP port, or on a Unix socket."""

    def __init__(self, servicer, path: Path | None = None, address: str = "127.0.0.1:0"):
        self.servicer = servicer
        self.server = grpc.server(futures.ThreadPoolExecutor(10))  # the prototype's ten handler threads
        rpc.add_AiInferenceServicer_to_server(servicer, self.server)
        if path:
            self.server.add_insecure_port(f"unix:{path}")
            self.address = f"unix:{path}"
        else:
            self.address = f"127.0.0.1:{self.server.add_insecure_port(address)}"
        self.server.start()

    def stop(self):
        self.server.stop(0).wait()


class Coordinator(rpc.AiInferenceServicer):
    """The prototype's coordinator: hands every call to one worker, as it came."""

    def __init__(self, worker_address: str):
        self.stub = rpc.AiInferenceStub(grpc.insecure_channel(target(worker_address)))
        self.calls = 0

    def StreamPredict(self, request_iterator, context):  # noqa: N802
        self.calls += 1
        call = self.stub.StreamPredict(request_iterator)
        context.add_callback(call.cancel)
        yield from call

    def Control(self, request, context):  # noqa: N802
        return self.stub.Control(request)

    def Health(self, request, context):  # noqa: N802
        return self.stub.Health(request)
