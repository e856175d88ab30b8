"""The application: calls the interop service at HOST:PORT, case by case, and tells of each, a JSON object a line.

client.py HOST:PORT CASE...: `interop` stands for the thirteen cases of grpc's own description.
"""
import json
import sys
import threading
import time

from interop import ECHO_INITIAL, ECHO_TRAILING, OPTIONS, STATUS, empty, grpc, messages, parameters, payload, service

PATIENCE = 30
MIB = 1 << 20


def failure(call):
    """The error that a call must end with."""
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call should have failed")


def unary(**fields):
    return messages.SimpleRequest(**fields)


def output(*sizes, interval=0.0, up=0):
    return messages.StreamingOutputCallRequest(
        response_parameters=parameters(*sizes, interval=interval), payload=payload(up))


def uploads(*sizes):
    return (messages.StreamingInputCallRequest(payload=payload(size)) for size in sizes)


def sizes(responses):
    return [len(response.payload.body) for response in responses]


class Interop:
    """The thirteen cases; names and expectations are those of grpc's own description."""

    def __init__(self, stub):
        self.stub = stub

    def empty_unary(self):
        assert self.stub.EmptyCall(empty.Empty(), timeout=PATIENCE) == empty.Empty()

    def large_unary(self):
        request = unary(response_size=314159, payload=payload(271828))
        assert len(self.stub.UnaryCall(request, timeout=PATIENCE).payload.body) == 314159

    def client_streaming(self):
        answer = self.stub.StreamingInputCall(uploads(27182, 8, 1828, 45904), timeout=PATIENCE)
        assert answer.aggregated_payload_size == 74922

    def server_streaming(self):
        wanted = [31415, 9, 2653, 58979]
        assert sizes(self.stub.StreamingOutputCall(output(*wanted), timeout=PATIENCE)) == wanted

    def ping_pong(self):
        turn, got = threading.Semaphore(1), []
        rounds = [(27182, 31415), (8, 9), (1828, 2653), (45904, 58979)]

        def requests():
            for up, down in rounds:
                turn.acquire()
                yield output(down, up=up)

        for response in self.stub.FullDuplexCall(requests(), timeout=PATIENCE):
            got.append(len(response.payload.body))
            turn.release()
        assert got == [down for _, down in rounds], got

    def empty_stream(self):
        assert list(self.stub.FullDuplexCall(iter(()), timeout=PATIENCE)) == []

    def custom_metadata(self):
        sent = ((ECHO_INITIAL, "test_initial_metadata_value"), (ECHO_TRAILING, b"\xab\xab\xab"))
        _, call = self.stub.UnaryCall.with_call(unary(response_size=1), metadata=sent, timeout=PATIENCE)
        assert dict(call.initial_metadata())[ECHO_INITIAL] == sent[0][1]
        assert dict(call.trailing_metadata())[ECHO_TRAILING] == sent[1][1]
        call = self.stub.FullDuplexCall(iter([output(1)]), metadata=sent, timeout=PATIENCE)
        assert sizes(call) == [1]
        assert dict(call.initial_metadata())[ECHO_INITIAL] == sent[0][1]
        assert dict(call.trailing_metadata())[ECHO_TRAILING] == sent[1][1]

    def status_code_and_message(self):
        status = messages.EchoStatus(code=2, message="test status message")
        error = failure(lambda: self.stub.UnaryCall(unary(response_status=status), timeout=PATIENCE))
        assert (error.code(), error.details()) == (grpc.StatusCode.UNKNOWN, status.message), error
        asked = messages.StreamingOutputCallRequest(response_status=status)
        error = failure(lambda: list(self.stub.FullDuplexCall(iter([asked]), timeout=PATIENCE)))
        assert (error.code(), error.details()) == (grpc.StatusCode.UNKNOWN, status.message), error

    def special_status_message(self):
        text = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
        status = messages.EchoStatus(code=2, message=text)
        error = failure(lambda: self.stub.UnaryCall(unary(response_status=status), timeout=PATIENCE))
        assert error.details() == text, repr(error.details())

    def unimplemented_method(self):
        error = failure(lambda: self.stub.UnimplementedCall(empty.Empty(), timeout=PATIENCE))
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error

    def cancel_after_begin(self):
        hold = threading.Event()

        def requests():
            hold.wait(PATIENCE)
            yield from ()

        call = self.stub.StreamingInputCall.future(requests(), timeout=PATIENCE)
        call.cancel()
        hold.set()
        assert call.cancelled() and call.code() == grpc.StatusCode.CANCELLED

    def cancel_after_first_response(self):
        hold = threading.Event()

        def requests():
            yield output(31415, up=27182)
            hold.wait(PATIENCE)

        call = self.stub.FullDuplexCall(requests(), timeout=PATIENCE)
        assert len(next(call).payload.body) == 31415
        call.cancel()
        hold.set()
        assert failure(lambda: next(call)).code() == grpc.StatusCode.CANCELLED

    def timeout_on_sleeping_server(self):
        call = self.stub.FullDuplexCall(iter([output(1, interval=PATIENCE, up=27182)]), timeout=0.2)
        assert failure(lambda: list(call)).code() == grpc.StatusCode.DEADLINE_EXCEEDED


class More(Interop):
    """What else is promised."""

    def megabytes(self):
        request = unary(response_size=MIB, payload=payload(MIB))
        assert len(self.stub.UnaryCall(request, timeout=PATIENCE).payload.body) == MIB
        up = self.stub.StreamingInputCall(uploads(*[MIB] * 8), timeout=PATIENCE)
        assert up.aggregated_payload_size == 8 * MIB
        assert sizes(self.stub.StreamingOutputCall(output(*[MIB] * 8), timeout=PATIENCE)) == [MIB] * 8
        both = self.stub.FullDuplexCall((output(MIB, up=MIB) for _ in range(8)), timeout=PATIENCE)
        assert sizes(both) == [MIB] * 8

    def half_duplex(self):
        assert sizes(self.stub.HalfDuplexCall(iter([output(1), output(2, 3)]), timeout=PATIENCE)) == [1, 2, 3]

    def many_values(self):
        binary = bytes(range(256))
        sent = [("x-many", "one"), ("x-many", "two, three"), ("x-many-bin", binary), ("x-many-bin", b"\0")]
        _, call = self.stub.UnaryCall.with_call(unary(response_size=1), metadata=sent, timeout=PATIENCE)
        got = [tuple(pair) for pair in call.trailing_metadata() if pair[0].startswith("x-many")]
        assert sorted(map(repr, got)) == sorted(repr(tuple(pair)) for pair in sent), got

    def own_credentials(self):
        sent = [("authorization", "Bearer mine")]
        assert self.stub.EmptyCall(empty.Empty(), metadata=sent, timeout=PATIENCE) == empty.Empty()

    def every_status(self):
        for number in range(1, 17):
            status = messages.EchoStatus(code=number, message=f"{number}: 100 %, a%20b, größer ☺")
            error = failure(lambda: self.stub.UnaryCall(unary(response_status=status), timeout=PATIENCE))
            assert (error.code(), error.details()) == (STATUS[number], status.message), (number, error)

    def large_status(self):
        status = messages.EchoStatus(code=9, message="x" * 12 * 1024)
        error = failure(lambda: self.stub.UnaryCall(unary(response_status=status), timeout=PATIENCE))
        assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, status.message), error

    def at_once(self):
        calls = [self.stub.UnaryCall.future(unary(response_size=1000), timeout=PATIENCE) for _ in range(500)]
        assert all(len(call.result().payload.body) == 1000 for call in calls)

    def with_deadline(self):
        self.stub.EmptyCall(empty.Empty(), timeout=17.5)

    def sleeping(self):
        """Ends by its deadline alone, while an answer is under way."""
        call = self.stub.StreamingOutputCall(output(1, 1, interval=1.0), timeout=1.5)
        assert len(next(call).payload.body) == 1
        assert failure(lambda: next(call)).code() == grpc.StatusCode.DEADLINE_EXCEEDED

    def cancelled_upload(self):
        """Cancelled once the API has got something of it."""
        sent = threading.Event()

        def requests():
            yield messages.StreamingInputCallRequest(payload=payload(1000))
            sent.wait(PATIENCE)

        call = self.stub.StreamingInputCall.future(requests(), timeout=2 * PATIENCE)
        # Whoever runs this says when.
        sys.stdin.readline()
        call.cancel()
        sent.set()
        assert call.code() == grpc.StatusCode.CANCELLED

    def long_stream(self):
        """A ping-pong of six seconds."""
        end = time.monotonic() + 6
        turn = threading.Semaphore(1)

        def requests():
            while time.monotonic() < end:
                turn.acquire()
                time.sleep(0.05)
                yield output(100, up=100)

        count = 0
        for response in self.stub.FullDuplexCall(requests(), timeout=2 * PATIENCE):
            count += 1
            turn.release()
        assert count >= 10, count

    def one(self):
        """One call, for its status."""
        try:
            self.stub.EmptyCall(empty.Empty(), timeout=PATIENCE)
        except grpc.RpcError as error:
            return error
        return None

    def beside_stuck_uploads(self):
        """Unary calls on a channel whose uploads are not taken."""
        for _ in range(5):
            stuck = [self.stub.StreamingInputCall.future(uploads(*[64 * 1024] * 200), metadata=[("x-stuck", "1")])
                     for _ in range(2)]
            # By now the uploads have sent all that anybody lets them.
            time.sleep(0.5)
            for _ in range(10):
                assert self.stub.EmptyCall(empty.Empty(), timeout=PATIENCE) == empty.Empty()
                request = unary(response_size=20_000, payload=payload(20_000))
                assert len(self.stub.UnaryCall(request, timeout=PATIENCE).payload.body) == 20_000
            assert not any(call.done() for call in stuck), "the uploads are under way all the while"
            for call in stuck:
                call.cancel()

    def endless(self):
        """A stream that somebody else ends."""
        call = self.stub.StreamingOutputCall(output(10, 10, interval=PATIENCE / 2), timeout=None)
        return failure(lambda: list(call))


def main():
    target, *names = sys.argv[1:]
    cases = More(service.TestServiceStub(grpc.insecure_channel(target, options=OPTIONS)))
    interop = [name for name in vars(Interop) if not name.startswith("_")]
    for name in [case for name in names for case in (interop if name == "interop" else [name])]:
        report, start = {"case": name, "ok": True}, time.monotonic()
        try:
            ended = getattr(cases, name)()
            if ended is not None:
                report.update(code=ended.code().name, details=ended.details())
        except (AssertionError, grpc.RpcError) as error:
            report.update(ok=False, why=f"{type(error).__name__}: {error}")
        print(json.dumps({**report, "seconds": round(time.monotonic() - start, 3)}), flush=True)


main()
