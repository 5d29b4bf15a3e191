"""The client API as any gRPC user has it: stubs generated from proto/baton/v1 by the stock tools, no code of ours."""

from __future__ import annotations

import importlib
import subprocess
import sys
from functools import lru_cache
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from cluster import ROOT, SCRATCH

PROTO = ROOT / "proto"
FILES = (
    "admin_service", "agent_service", "delivery_service", "inbox_service", "intent", "intent_service", "scenario_service",
    "schema_service", "task_service",
)


@lru_cache(maxsize=1)
def _generate() -> None:
    out = SCRATCH / "stubs"
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", f"--python_out={out}", f"--grpc_python_out={out}"]
    subprocess.run([*command, *(f"baton/v1/{name}.proto" for name in FILES)], check=True, cwd=PROTO)
    sys.path.insert(0, str(out))


def messages(name: str) -> Any:
    """The messages of one file, for example `intent_service`."""
    _generate()
    return importlib.import_module(f"baton.v1.{name}_pb2")


def _stub(name: str, channel: grpc.Channel) -> Any:
    _generate()
    module = importlib.import_module(f"baton.v1.{name}_pb2_grpc")
    service = "".join(part.capitalize() for part in name.split("_"))
    return getattr(module, f"{service}Stub")(channel)


class _Key(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Sends a key with each call."""

    def __init__(self, key: str) -> None:
        self._key = key

    def _with_key(self, call: Any, details: grpc.ClientCallDetails, request: Any) -> Any:
        metadata = [*(details.metadata or ()), ("x-api-key", self._key)]
        return call(details._replace(metadata=metadata), request)

    intercept_unary_unary = intercept_unary_stream = intercept_stream_stream = _with_key


class Native:
    """Stubs of every service over one channel."""

    def __init__(self, url: str, key: str) -> None:
        self.channel = grpc.insecure_channel(url.removeprefix("http://"))
        keyed = grpc.intercept_channel(self.channel, _Key(key))
        self.intents = _stub("intent_service", keyed)
        self.agents = _stub("agent_service", keyed)
        self.inbox = _stub("inbox_service", keyed)
        self.scenarios = _stub("scenario_service", keyed)
        self.tasks = _stub("task_service", keyed)
        self.deliveries = _stub("delivery_service", keyed)
        self.schemas = _stub("schema_service", keyed)
        self.admin = _stub("admin_service", keyed)

    def close(self) -> None:
        self.channel.close()


def details(error: grpc.RpcError) -> dict[str, Any]:
    """The google.rpc details of a refusal, by the last part of their type's name."""
    status = rpc_status.from_call(error)
    found = {}
    for packed in status.details if status else ():
        name = packed.TypeName().rsplit(".", 1)[-1]
        message = getattr(error_details_pb2, name)()
        assert packed.Unpack(message)
        found[name] = message
    return found
