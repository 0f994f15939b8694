"""HTTP, with and without asyncio, against a server of canned bytes."""
import asyncio
import json
import math
import os
import tempfile
import time
import unittest

from varve import (
    ApiError,
    AsyncClient,
    AsyncSandbox,
    BuildError,
    Builds,
    Client,
    ConflictError,
    Image,
    Images,
    NotFoundError,
    Sandbox,
    SandboxInfo,
    Snapshots,
    TransportError,
    UnreachableError,
)
from varve._endpoint import Call
from varve._retry import Retry as CallRetry
from varve._retry import RetryPolicy

from .serve import CHUNKED, EVENTS, LAST, SANDBOX, Server, chunk, event, reply, with_headers


class Sync:
    @staticmethod
    def create(path, **options):
        return Sandbox.create(client=Client(socket=path), **options)

    @staticmethod
    def write(path, data):
        return Sandbox.create(client=Client(socket=path)).files.write("/f", data)

    @staticmethod
    def run(path, on_output):
        return Sandbox.create(client=Client(socket=path)).exec.run("x", on_output=on_output)

    @staticmethod
    def read(path):
        with Client(socket=path).open(Call("GET", "/x")) as response:
            return response.read()


class Async:
    @staticmethod
    def create(path, **options):
        return asyncio.run(AsyncSandbox.create(client=AsyncClient(socket=path), **options))

    @staticmethod
    def write(path, data):
        async def go():
            sandbox = await AsyncSandbox.create(client=AsyncClient(socket=path))
            await sandbox.files.write("/f", data)

        return asyncio.run(go())

    @staticmethod
    def run(path, on_output):
        async def go():
            sandbox = await AsyncSandbox.create(client=AsyncClient(socket=path))
            return await sandbox.exec.run("x", on_output=on_output)

        return asyncio.run(go())

    @staticmethod
    def read(path):
        async def go():
            async with await AsyncClient(socket=path).open(Call("GET", "/x")) as response:
                return await response.read()

        return asyncio.run(go())


def both(test):
    """Runs a test with each kind of client."""

    def run(self):
        for calls in Sync, Async:
            with self.subTest(calls.__name__):
                test(self, calls)

    return run


def setUpModule():
    os.environ["VARVE_RETRY_SECONDS"] = "0"


def tearDownModule():
    del os.environ["VARVE_RETRY_SECONDS"]


class Retry(unittest.TestCase):
    """A daemon that is being replaced: a reply for each connection."""

    def setUp(self):
        os.environ["VARVE_RETRY_SECONDS"] = "10"

    def tearDown(self):
        os.environ["VARVE_RETRY_SECONDS"] = "0"

    def _keys(self, server):
        heads = [r.partition(b"\r\n\r\n")[0].split(b"\r\n") for r in server.requests]
        return [next((h for h in head if h.startswith(b"Idempotency-Key: ")), None) for head in heads]

    KNOWS = [with_headers(reply(200, {}), "Idempotency-Keys: 1")]

    @both
    def test_a_change_has_one_key(self, calls):
        soon = with_headers(reply(503, {"error": "x"}), "Idempotency-Keys: 1", "Retry-After: 1")
        pending = with_headers(soon, "Idempotency-Pending: true")
        half = with_headers(reply(201, SANDBOX), "Idempotency-Keys: 1")[:-5]
        turns = [self.KNOWS, [b""], [soon], [pending], [half], [reply(201, SANDBOX)]]
        with Server(turns=turns) as server:
            self.assertEqual(calls.create(server.path).id, "sb-1")
            keys = self._keys(server)
        self.assertEqual(len(keys), 6)
        self.assertEqual(len(set(keys[1:])), 1)
        self.assertIsNone(keys[0])
        self.assertIsNotNone(keys[1])

    @both
    def test_an_older_daemon_is_not_sent_a_change_twice(self, calls):
        for first in reply(200, {}), b"":
            with Server(turns=[[first], [b""], [reply(201, SANDBOX)]]) as server:
                with self.assertRaises(TransportError):
                    calls.create(server.path)
                self.assertEqual(len(server.requests), 2)
        soon = with_headers(reply(503, {"error": "x"}), "Retry-After: 1")
        with Server(turns=[[reply(200, {})], [soon], [reply(201, SANDBOX)]]) as server:
            self.assertEqual(calls.create(server.path).id, "sb-1")

    @both
    def test_a_command_is_not_made_again_once_it_has_told_something(self, calls):
        start = with_headers(EVENTS, "Idempotency-Keys: 1")
        output = event("output", {"stream": "stdout", "data": "x"})
        got = []
        made = with_headers(reply(201, SANDBOX), "Idempotency-Keys: 1")
        older = reply(400, {"error": "x"})
        turns = [self.KNOWS, [made], [older], [start, output], [reply(200, {})]]
        with Server(turns=turns) as server:
            with self.assertRaises(TransportError):
                calls.run(server.path, got.append)
            self.assertEqual(len(got), 1)
            self.assertEqual(len(server.requests), 4)

    MADE = [with_headers(reply(201, SANDBOX), "Idempotency-Keys: 1")]
    BEGUN = [with_headers(reply(200, {"execId": "e-1"}), "Idempotency-Keys: 1")]
    FOLLOWED = with_headers(EVENTS, "Idempotency-Keys: 1")

    @staticmethod
    def _out(data, stream="stdout"):
        return event("output", {"stream": stream, "data": data})

    @both
    def test_a_command_goes_on_and_is_told_once(self, calls):
        first = [self.FOLLOWED, self._out("one,"), self._out("!", "stderr")]
        last = [self.FOLLOWED, self._out("two"), event("result", {"exitCode": 3}), LAST]
        got = []
        for tell in None, got.append:
            turns = [self.KNOWS, self.MADE, self.BEGUN, first, [b""], last]
            with Server(turns=turns) as server:
                result = calls.run(server.path, tell)
                places = [r.split()[1].partition(b"?")[2] for r in server.requests[3:]]
                self.assertIn(b'"attached": true', server.requests[2])
            self.assertEqual(places, [b"stdout=0&stderr=0"] + 2 * [b"stdout=4&stderr=1"])
            self.assertEqual((result.exit_code, result.truncated), (3, False))
            text = ("", "") if tell else ("one,two", "!")
            self.assertEqual((result.stdout, result.stderr), text)
        self.assertEqual([o.data for o in got], [b"one,", b"!", b"two"])

    @both
    def test_a_command_that_nobody_waits_for_any_more_is_killed(self, calls):
        def enough(_):
            raise NotFoundError(404, "enough")

        one = [self.FOLLOWED, self._out("one")]
        turns = [self.KNOWS, self.MADE, self.BEGUN, one, [reply(204, b"")]]
        with Server(turns=turns) as server:
            with self.assertRaisesRegex(NotFoundError, "enough"):
                calls.run(server.path, enough)
            self.assertIn(b"DELETE /api/sandboxes/sb-1/exec/e-1 ", server.requests[-1])
        turns = [self.KNOWS, self.MADE, self.BEGUN, one, [reply(404, {"error": "no such exec"})]]
        with Server(turns=turns) as server:
            with self.assertRaisesRegex(TransportError, "not known: no such exec"):
                calls.run(server.path, None)
            self.assertEqual(len(server.requests), 5)

    @both
    def test_a_result_has_so_much_output(self, calls):
        outputs = [self._out("x" * (1 << 20)) for _ in range(17)]
        turns = [self.KNOWS, self.MADE, self.BEGUN]
        turns.append([self.FOLLOWED, *outputs, event("result", {"exitCode": 0}), LAST])
        with Server(turns=turns) as server:
            result = calls.run(server.path, None)
        note = "\nvarve: output cut after 16777216 bytes\n"
        self.assertEqual(len(result.stdout), (16 << 20) + len(note))
        self.assertTrue(result.stdout.endswith("x" + note))
        self.assertTrue(result.truncated)

    def test_seconds_are_a_number_of_some_size(self):
        for text in "nan", "inf", "-1", "86401", "a while", " ":
            os.environ["VARVE_RETRY_SECONDS"] = text
            self.assertEqual((RetryPolicy(None).seconds, RetryPolicy(None).always), (10, False))
        os.environ["VARVE_RETRY_SECONDS"] = "1.5"
        self.assertEqual((RetryPolicy(None).seconds, RetryPolicy(None).always), (1.5, True))
        for seconds in math.nan, math.inf, -1:
            with self.assertRaises(ValueError):
                RetryPolicy(seconds)

    def test_a_daemon_that_was_there_gets_the_whole_time(self):
        del os.environ["VARVE_RETRY_SECONDS"]
        policy = RetryPolicy(None)
        away, broken = UnreachableError("x"), TransportError("x")
        with self.assertRaises(UnreachableError):
            CallRetry(policy, Call("GET", "/")).next(away)
        policy.seconds = 0.001
        call = CallRetry(policy, Call("GET", "/"))
        for _ in range(8):
            call.next(broken)
            time.sleep(0.002)
        with self.assertRaises(TransportError):
            call.next(broken)
        policy.seconds = 10
        CallRetry(policy, Call("POST", "/")).next(away)

    @both
    def test_events_come_once(self, calls):
        log = [event("build_log", {"step": 1, "message": f"{n}"}) for n in range(3)]
        start = with_headers(EVENTS, "Idempotency-Keys: 1")
        all_of_it = [start, *log, event("result", SANDBOX), LAST]
        turns = [self.KNOWS, [start, log[0], log[1]], [start, log[0]], all_of_it]
        got = []
        with Server(turns=turns) as server:
            sandbox = calls.create(server.path, image=Image.base(), on_build_log=got.append)
        self.assertEqual(sandbox.id, "sb-1")
        self.assertEqual([str(g) for g in got], ["0", "1", "2"])

    @both
    def test_a_daemon_that_is_away_is_no_other(self, calls):
        away = with_headers(reply(503, {"error": "x"}), "Retry-After: 5")
        with Server(turns=[self.KNOWS, [away], [reply(201, SANDBOX)]]) as server:
            with self.assertRaises(ApiError):
                calls.create(server.path)

    @both
    def test_without_a_daemon_nobody_waits(self, calls):
        os.environ.pop("VARVE_RETRY_SECONDS", None)
        with self.assertRaises(UnreachableError):
            calls.create("/nowhere/sock")


class Http(unittest.TestCase):
    @both
    def test_json(self, calls):
        with Server(reply(201, SANDBOX)) as server:
            sandbox = calls.create(server.path, timeout=5, envs={"A": "1"}, memory_mb=64)
            self.assertEqual(sandbox.id, "sb-1")
            self.assertEqual(sandbox.info.metadata, {"a": "b"})
            head, body = server.last()
        self.assertTrue(head.startswith(b"POST /api/sandboxes HTTP/1.1\r\n"))
        wanted = {"templateID": "base", "timeout": 5, "envs": {"A": "1"}, "memoryMB": 64}
        self.assertEqual(json.loads(body), wanted)

    def test_pages(self):
        """Of every list; without limit and after it is asked for whole."""
        page = {"limit": 2, "after": "a b"}
        lists = {
            "/api/sandboxes": lambda c, **p: Sandbox.list(client=c, **p),
            "/api/sandboxes/sb-1/checkpoints": lambda c, **p: self._sandbox(c).list_checkpoints(**p),
            "/api/sandboxes/sb-1/files/list": lambda c, **p: self._sandbox(c).files.list("/d", **p),
            "/api/sandboxes/checkpoints/cp/patches":
                lambda c, **p: Sandbox.list_checkpoint_patches("cp", client=c, **p),
            "/api/snapshots": lambda c, **p: Snapshots(c).list(**p),
            "/api/images": lambda c, **p: Images(c).list(**p),
            "/api/builds": lambda c, **p: Builds(c).list(**p),
        }
        for path, call in lists.items():
            self._check_page(path, call, page, "limit=2&after=a%20b")
            self._check_page(path, call, {}, None)

    def _sandbox(self, client):
        return Sandbox(client, SandboxInfo.from_json(SANDBOX))

    def _check_page(self, path, call, page, wanted):
        with self.subTest(path, **page), Server(reply(200, [])) as server:
            self.assertEqual(call(Client(socket=server.path), **page), [])
            target = server.last()[0].split(b" ")[1].decode()
        asked, _, query = target.partition("?")
        self.assertEqual(asked, path)
        query = query.replace("path=/d", "").replace("path=%2Fd", "").strip("&").replace("+", "%20")
        self.assertEqual(query, wanted or "")

    def test_pages_without_threads(self):
        async def go(path):
            client = AsyncClient(socket=path)
            await AsyncSandbox.list(limit=1, after="x", client=client)

        with Server(reply(200, [])) as server:
            asyncio.run(go(server.path))
            self.assertIn(b" /api/sandboxes?limit=1&after=x ", server.last()[0])

    @both
    def test_events(self, calls):
        log = {"step": 2, "type": "run", "message": "caf\u00e9", "stream": "stdout"}
        start = [EVENTS, chunk(b": hello\n\n"), event("build_log", log)]
        pieces = start + [event("result", SANDBOX), LAST]
        data = b"".join(pieces)
        for sent in (pieces, [data], [data[i : i + 1] for i in range(len(data))]):
            got = []
            with Server(*sent) as server:
                sandbox = calls.create(server.path, image=Image.base(), on_build_log=got.append)
                self.assertIn(b"Accept: text/event-stream\r\n", server.last()[0] + b"\r\n")
            self.assertEqual(sandbox.id, "sb-1")
            told = [(g.step, g.type, str(g), g.stream) for g in got]
            self.assertEqual(told, [(2, "run", "caf\u00e9", "stdout")])

    @both
    def test_failures(self, calls):
        with Server(reply(409, {"error": "taken"})) as server:
            with self.assertRaises(ConflictError) as caught:
                calls.create(server.path, image=Image.base())
            self.assertEqual(caught.exception.message, "taken")
        failed = event("error", {"error": "step 2 (run): status 1", "step": 2})
        with Server(EVENTS, failed, LAST) as server:
            with self.assertRaises(BuildError) as caught:
                calls.create(server.path, image=Image.base())
            self.assertEqual(caught.exception.step, 2)
            self.assertEqual(caught.exception.message, "step 2 (run): status 1")

    @both
    def test_connections_that_break(self, calls):
        with self.assertRaises(TransportError):
            calls.create("/nonexistent/socket")
        log = event("build_log", {"message": "x"})
        for sent in (
            b"",
            b"HTTP/1.1 200 OK\r\n",
            reply(200, {"a": 1})[:-1],
            b"SSH-2.0\r\n\r\n",
            CHUNKED + b"5\r\nab",
            CHUNKED + chunk(b"{}"),
            EVENTS + log + LAST,
            EVENTS + log,
            reply(200, b"{"),
        ):
            with self.subTest(sent), Server(sent) as server:
                with self.assertRaises(TransportError):
                    calls.create(server.path, image=Image.base())

    @both
    def test_bodies(self, calls):
        for sent, wanted in (
            (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
            (reply(200, b""), b""),
            (b"HTTP/1.1 100 Continue\r\n\r\n" + reply(200, b"x"), b"x"),
            (CHUNKED + chunk(b"a") + b"A;ext=1\r\n0123456789\r\n" + LAST, b"a0123456789"),
            (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end"),
            (reply(200, b"y" * 300000), b"y" * 300000),
        ):
            with self.subTest(sent[:60]), Server(sent) as server:
                self.assertEqual(calls.read(server.path), wanted)

    @both
    def test_uploads(self, calls):
        big = bytes(range(256)) * 1000
        with Server(reply(201, SANDBOX)) as server:
            for data, wanted in (
                ("gr\u00fcn", "gr\u00fcn".encode()),
                (b"", b""),
                (bytearray(b"ab"), b"ab"),
                (memoryview(b"abc"), b"abc"),
                (big, big),
            ):
                calls.write(server.path, data)
                head, body = server.last()
                self.assertTrue(head.startswith(b"PUT /api/sandboxes/sb-1/files?path=/f "))
                self.assertEqual(body, wanted)
            calls.write(server.path, iter([b"abc", b"", b"de"]))
            self.assertEqual(server.last()[1], b"3\r\nabc\r\n2\r\nde\r\n" + LAST)
            with tempfile.TemporaryFile() as file:
                file.write(b"from a file")
                file.seek(0)
                calls.write(server.path, file)
            self.assertEqual(server.last()[1].lower(), b"b\r\nfrom a file\r\n" + LAST)

    @both
    def test_a_refused_upload_says_why(self, calls):
        with Server(reply(404, {"error": "no such sandbox"}), read_all=False) as server:
            with self.assertRaises(NotFoundError):
                calls.create(server.path, metadata={"x": "y" * 4_000_000})

    def test_what_a_callback_raises_goes_through(self):
        def fail(_):
            raise KeyError("mine")

        log = event("build_log", {"message": "x"})
        with Server(EVENTS, log, event("result", SANDBOX), LAST) as server:
            snapshots = Snapshots(Client(socket=server.path))
            with self.assertRaises(KeyError):
                snapshots.create("n", Image.base(), on_build_logs=fail)

    def test_coroutines_as_callbacks(self):
        got = []

        async def on_log(log):
            await asyncio.sleep(0)
            got.append(str(log))

        log = event("build_log", {"message": "x"})
        with Server(EVENTS, log, event("result", SANDBOX), LAST) as server:
            Async.create(server.path, image=Image.base(), on_build_log=on_log)
        self.assertEqual(got, ["x"])

    def test_arguments(self):
        with self.assertRaises(ValueError):
            Sandbox.create(image=Image.base(), snapshot="x", client=Client(socket="/none"))
        with self.assertRaises(TypeError):
            with Server(reply(201, SANDBOX)) as server:
                Sync.create(server.path).exec.run("ls", "-l")


if __name__ == "__main__":
    unittest.main()
