"""The protected API: the interop service on grpcio, for whoever shows exactly one bearer token.

server.py [--certificate FILE --key FILE]: over TLS where both are given. Tells what happens, a JSON object a line.
"""
import argparse
import itertools
import json
import re
import threading
import time
from concurrent import futures

from interop import ECHO_INITIAL, ECHO_TRAILING, OPTIONS, STATUS, empty, grpc, messages, payload, service

BEARER = re.compile(r"Bearer token-\d+")
_numbers, _telling = itertools.count(), threading.Lock()


def tell(**event):
    with _telling:
        print(json.dumps(event), flush=True)


class Call:
    """One call, from the moment that it is let in; `whole` once the service has done all of it."""

    def __init__(self, method, context):
        self.number, self.whole = next(_numbers), False
        metadata = context.invocation_metadata()
        credentials = [value for name, value in metadata if name == "authorization"]
        tell(event="began", call=self.number, method=method, authorization=credentials,
             remaining=context.time_remaining(), names=sorted({name for name, _ in metadata}))
        context.add_callback(lambda: self.tell_end(context))
        if len(credentials) != 1 or not BEARER.fullmatch(credentials[0]):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "exactly one bearer token is needed")
        initial = [pair for pair in metadata if pair[0] == ECHO_INITIAL]
        if initial:
            context.send_initial_metadata(initial)
        context.set_trailing_metadata([pair for pair in metadata if pair[0] in (ECHO_TRAILING, "x-many", "x-many-bin")])

    def tell_end(self, context):
        # A cancelled upload may look like a whole one to the service, where the end of its messages is heard of first.
        # grpcio knows better, in a field that is its own; its version is pinned.
        tell(event="ended", call=self.number, whole=self.whole and context._state.client != "cancelled")


def answer_as_asked(request, context, call):
    status = request.response_status
    if request.HasField("response_status") and status.code:
        call.whole = True
        context.abort(STATUS[status.code], status.message)


def outputs(request, context):
    for wanted in request.response_parameters:
        # A sleep that a cancelled call does not hold a thread with.
        until = time.monotonic() + wanted.interval_us / 1e6
        while context.is_active() and time.monotonic() < until:
            time.sleep(0.01)
        yield messages.StreamingOutputCallResponse(payload=payload(wanted.size))


class Service(service.TestServiceServicer):
    def EmptyCall(self, request, context):
        call = Call("EmptyCall", context)
        call.whole = True
        return empty.Empty()

    def UnaryCall(self, request, context):
        call = Call("UnaryCall", context)
        answer_as_asked(request, context, call)
        call.whole = True
        return messages.SimpleResponse(payload=payload(request.response_size))

    def StreamingOutputCall(self, request, context):
        call = Call("StreamingOutputCall", context)
        yield from outputs(request, context)
        call.whole = True

    def StreamingInputCall(self, requests, context):
        call = Call("StreamingInputCall", context)
        total = 0
        if ("x-stuck", "1") in context.invocation_metadata():
            # It takes one message and no more, until the caller gives up.
            next(requests)
            while context.is_active():
                time.sleep(0.01)
            return messages.StreamingInputCallResponse()
        for request in requests:
            total += len(request.payload.body)
            tell(event="received", call=call.number, total=total)
        call.whole = True
        return messages.StreamingInputCallResponse(aggregated_payload_size=total)

    def FullDuplexCall(self, requests, context):
        call = Call("FullDuplexCall", context)
        for request in requests:
            answer_as_asked(request, context, call)
            yield from outputs(request, context)
        call.whole = True

    def HalfDuplexCall(self, requests, context):
        call = Call("HalfDuplexCall", context)
        for request in list(requests):
            yield from outputs(request, context)
        call.whole = True


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--certificate")
    arguments.add_argument("--key")
    arguments = arguments.parse_args()
    server = grpc.server(futures.ThreadPoolExecutor(64), options=OPTIONS)
    service.add_TestServiceServicer_to_server(Service(), server)
    if arguments.certificate:
        pair = (open(arguments.key, "rb").read(), open(arguments.certificate, "rb").read())
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    tell(event="ready", port=port)
    server.wait_for_termination()


main()
