"""A collector of traces (PyPI opentelemetry-proto, which holds the official messages): OTLP over HTTP in protobuf. Tells each
span that it gets, a JSON object a line. `status` says what it answers; `certificate` and `key` are for TLS."""
import http.server
import json
import ssl
import sys

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status


def tell(**event):
    print(json.dumps(event), flush=True)


def values(attributes):
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


class Collector(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Numbers, [number, Retry-After], or "partial" and "html".
    statuses = [200]

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/status":
            Collector.statuses = json.loads(body)
            return self.answer(200, b"")
        # The last one stays.
        status = Collector.statuses[0] if len(Collector.statuses) == 1 else Collector.statuses.pop(0)
        status, wait = status if isinstance(status, list) else (status, None)
        is_traces = self.path == "/base/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
        tell(event="message", path=self.path, status=status, key=self.headers["x-key"])
        if status == "partial":
            refused = ExportTraceServiceResponse()
            refused.partial_success.rejected_spans = 1
            refused.partial_success.error_message = "over quota"
            return self.answer(200, refused.SerializeToString())
        if status == "html":
            return self.answer(200, b"<html>", "text/html")
        if status != 200 or not is_traces:
            return self.answer(status if status != 200 else 404, b"not now: a-word-of-the-collector", wait=wait)
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for of_scope in of_resource.scope_spans:
                for span in of_scope.spans:
                    tell(
                        event="span", name=span.name, kind=Span.SpanKind.Name(span.kind), trace=span.trace_id.hex(),
                        span=span.span_id.hex(), parent=span.parent_span_id.hex(), flags=span.flags,
                        seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9, began=span.start_time_unix_nano / 1e9,
                        attributes=values(span.attributes), status=Status.StatusCode.Name(span.status.code),
                        resource=values(of_resource.resource.attributes), scope=of_scope.scope.name)
        self.answer(200, ExportTraceServiceResponse().SerializeToString())

    def answer(self, status, body, kind="application/x-protobuf", wait=None):
        self.send_response(status)
        if wait is not None:
            self.send_header("retry-after", wait)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
server.daemon_threads = True
if len(sys.argv) > 1:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    server.socket = context.wrap_socket(server.socket, server_side=True)
tell(event="ready", port=server.server_address[1])
server.serve_forever()
