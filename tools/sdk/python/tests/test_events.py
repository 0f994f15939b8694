"""Event streams, addresses, errors: what needs no connection."""
import os
import unittest
from unittest import mock

from varve import (
    ApiError,
    AuthenticationError,
    BuildError,
    ConflictError,
    InvalidRequestError,
    NoSpaceError,
    NotFoundError,
    VarveError,
)
from varve._endpoint import Call, Endpoint
from varve._events import Event, EventParser
from varve.errors import api_error


class Events(unittest.TestCase):
    STREAM = (
        b"\xef\xbb\xbf: a comment\n\n"
        b'event: build_log\ndata: {"message": "caf\xc3\xa9"}\n\n'
        b"event:two\r\ndata:one\r\ndata: two\r\ndata:  three\r\n\r\n"
        b"data\rid: 7\rretry: 5\rdata: x:y\r\r"
        b"event: nothing\n\n"
        b": again\nunknown: x\ndata: last\n: inside\n\n"
        b"data: not ended\n"
    )
    WANTED = [
        Event("build_log", '{"message": "caf\u00e9"}'),
        Event("two", "one\ntwo\n three"),
        Event("message", "\nx:y"),
        Event("message", "last"),
    ]

    def parse(self, pieces):
        parser, events = EventParser(), []
        for piece in pieces:
            events += parser.feed(piece)
        return events

    def test_whole(self):
        self.assertEqual(self.parse([self.STREAM]), self.WANTED)

    def test_cut_anywhere(self):
        for at in range(len(self.STREAM) + 1):
            pieces = [self.STREAM[:at], self.STREAM[at:]]
            self.assertEqual(self.parse(pieces), self.WANTED, at)
        self.assertEqual(self.parse([bytes([b]) for b in self.STREAM]), self.WANTED)

    def test_an_event_is_told_as_soon_as_it_is_whole(self):
        parser = EventParser()
        self.assertEqual(list(parser.feed(b"data: a\n\n")), [Event("message", "a")])
        self.assertEqual(list(parser.feed(b"data: b\r\n\r\n")), [Event("message", "b")])
        self.assertEqual(list(parser.feed(b"data: c\r\r")), [Event("message", "c")])
        self.assertEqual(list(parser.feed(b"\ndata: d\n\n")), [Event("message", "d")])

    def test_many_at_once(self):
        text = b"".join(b"data: %d\n\n" % i for i in range(20000))
        self.assertEqual(len(self.parse([text])), 20000)


class Addresses(unittest.TestCase):
    def resolve(self, env, **given):
        with mock.patch.dict(os.environ, env, clear=True):
            return Endpoint.resolve(**given)

    def test_order(self):
        env = {"VARVE_API_URL": "http://h:1", "VARVE_SOCKET": "/v", "SNAPSHOTD_SOCKET": "/s"}
        self.assertEqual(self.resolve(env, socket="/given").socket, "/given")
        self.assertEqual(self.resolve(env, url="http://x").host, "x")
        self.assertEqual(self.resolve(env).port, 1)
        del env["VARVE_API_URL"]
        self.assertEqual(self.resolve(env).socket, "/v")
        del env["VARVE_SOCKET"]
        self.assertEqual(self.resolve(env).socket, "/s")
        self.assertEqual(self.resolve({}).socket, "/run/snapshotd.sock")
        with self.assertRaises(ValueError):
            self.resolve({}, socket="/s", url="http://x")

    def test_urls(self):
        for url, wanted in (
            ("http://h", ("h", 80, False, "")),
            ("https://h/", ("h", 443, True, "")),
            ("http://h:81/api", ("h", 81, False, "")),
            ("http://[::1]:81/sub/api/", ("::1", 81, False, "/sub")),
        ):
            with self.subTest(url):
                e = self.resolve({}, url=url)
                self.assertEqual((e.host, e.port, e.tls, e.prefix), wanted)
        self.assertEqual(self.resolve({}, url="unix:///run/x").socket, "/run/x")
        for bad in "h:80", "ftp://h", "http://":
            with self.subTest(bad), self.assertRaises(ValueError):
                self.resolve({}, url=bad)

    def test_keys_are_sent_and_not_shown(self):
        e = self.resolve({"VARVE_API_KEY": "secret", "VARVE_API_URL": "http://[::1]:5"})
        headers = dict(Call("GET", "/x").headers(e))
        self.assertEqual(headers["X-API-Key"], "secret")
        self.assertEqual(headers["Host"], "[::1]:5")
        self.assertNotIn("secret", repr(e))
        self.assertEqual(self.resolve({"VARVE_API_KEY": "secret"}, api_key="").api_key, "")

    def test_queries_are_quoted(self):
        call = Call("GET", "/api/x", {"path": "/a b/\u00e4&c?d+e"})
        target = call.target(Endpoint("/s"))
        self.assertEqual(target, "/api/x?path=/a%20b/%C3%A4%26c%3Fd%2Be")


class Errors(unittest.TestCase):
    def test_kinds(self):
        for status, kind in (
            (400, InvalidRequestError),
            (401, AuthenticationError),
            (404, NotFoundError),
            (409, ConflictError),
            (413, ApiError),
            (422, BuildError),
            (500, ApiError),
            (507, NoSpaceError),
        ):
            e = api_error(status, b'{"error": "what and why"}')
            self.assertIs(type(e), kind)
            self.assertEqual((e.status, e.message), (status, "what and why"))
            self.assertIsInstance(e, VarveError)
            self.assertIn("what and why", str(e))

    def test_bodies_that_are_no_json(self):
        self.assertEqual(api_error(502, b"<html>").message, "<html>")
        self.assertEqual(api_error(502, b"").message, "the daemon gave no reason")
        self.assertEqual(api_error(422, b'{"error": "x", "step": 3}').step, 3)


if __name__ == "__main__":
    unittest.main()
