"""Images: manifests, keys, local files. No daemon is needed."""
import json
import os
import tempfile
import unittest
from pathlib import Path

from varve import Image, _jcs

VECTORS = Path(__file__).parents[4] / "tests" / "vectors" / "manifests.json"


def build(calls):
    """The image that [NAME, ARGUMENT...] lists make."""
    first, *rest = calls
    image = getattr(Image, first[0])(*first[1:])
    for name, *args in rest:
        image = getattr(image, name)(*args)
    return image


class Vectors(unittest.TestCase):
    """The file that all implementations are tested with."""

    @classmethod
    def setUpClass(cls):
        cls.vectors = json.loads(VECTORS.read_text(encoding="utf-8"))

    def test_canonical_json(self):
        self.assertGreater(len(self.vectors["jcs"]), 3)
        for v in self.vectors["jcs"]:
            with self.subTest(v["canonical"]):
                self.assertEqual(_jcs.dumps(v["value"]).decode("utf-8"), v["canonical"])

    def test_keys_of_manifests(self):
        self.assertGreater(len(self.vectors["valid"]), 20)
        for v in self.vectors["valid"]:
            with self.subTest(v["name"]):
                image = Image.from_dict(v["manifest"])
                self.assertEqual(image.cache_key(), v["key"])
                self.assertEqual(image.to_dict(), v["manifest"])

    def test_calls_make_the_manifests(self):
        with_calls = [v for v in self.vectors["valid"] if "calls" in v]
        self.assertGreater(len(with_calls), 5)
        for v in with_calls:
            with self.subTest(v["name"]):
                image = build(v["calls"])
                self.assertEqual(image.to_dict(), v["manifest"])
                self.assertEqual(image.cache_key(), v["key"])


class CanonicalJson(unittest.TestCase):
    def test_refuses_what_has_no_one_form(self):
        for value in 1.0, float("nan"), {1: 2}, {"a": object()}, b"x":
            with self.subTest(value=value), self.assertRaises(TypeError):
                _jcs.dumps(value)
        for value in 2**53 + 1, -(2**53) - 1, "\ud800", {"\udfff": 1}:
            with self.subTest(value=value), self.assertRaises(ValueError):
                _jcs.dumps(value)


class Immutable(unittest.TestCase):
    def test_every_call_returns_a_new_image(self):
        base = Image.base()
        before = base.cache_key()
        with tempfile.TemporaryDirectory() as top:
            Path(top, "f").write_text("x")
            made = [
                base.apt_install(["a"]),
                base.pip_install(["a"]),
                base.run_commands("true"),
                base.env({"A": "1"}),
                base.workdir("/x"),
                base.add_file("/f", "x"),
                base.add_local_file(Path(top, "f"), "/f"),
                base.add_local_dir(top, "/d"),
                base.builder_memory(512),
            ]
        for image in made:
            self.assertIsNot(image, base)
            self.assertNotEqual(image, base)
        self.assertEqual(base.to_dict(), {"base": "base", "steps": []})
        self.assertEqual(base.cache_key(), before)

    def test_arguments_and_copies_are_its_own(self):
        packages, variables = ["a"], {"A": "1"}
        image = Image.base().apt_install(packages).env(variables)
        key = image.cache_key()
        packages.append("b")
        variables["B"] = "2"
        image.to_dict()["steps"][0]["args"]["packages"].append("c")
        self.assertEqual(image.cache_key(), key)
        self.assertEqual(image.to_dict()["steps"][0]["args"]["packages"], ["a"])

    def test_no_attribute_can_be_added(self):
        with self.assertRaises(AttributeError):
            Image.base().steps = []

    def test_equality_is_that_of_the_manifest(self):
        one, two = Image.base().env({"A": "1", "B": "2"}), Image.base().env({"B": "2", "A": "1"})
        self.assertEqual(one, two)
        self.assertEqual(hash(one), hash(two))
        self.assertNotEqual(one, one.builder_memory(512))
        self.assertEqual(one.cache_key(), one.builder_memory(512).cache_key())


class Arguments(unittest.TestCase):
    def test_one_string_is_no_list(self):
        for call in (
            lambda: Image.base().apt_install("curl"),
            lambda: Image.base().pip_install("requests"),
            lambda: Image.base().apt_install([1]),
            lambda: Image.base().run_commands(["a", "b"]),
            lambda: Image.base().env({"A": 1}),
            lambda: Image.base().workdir(None),
            lambda: Image.from_snapshot(None),
        ):
            with self.assertRaises(TypeError):
                call()

    def test_modes(self):
        for given, wanted in (
            (0o755, "0755"),
            ("755", "0755"),
            ("0644", "0644"),
            (0, "0000"),
            (0o4755, "4755"),
            ("7777", "7777"),
        ):
            with self.subTest(given=given):
                args = Image.base().add_file("/f", b"", given).to_dict()["steps"][0]["args"]
                self.assertEqual(args["mode"], wanted)
        for bad in 0o10000, -1, "8", "rwx":
            with self.subTest(bad=bad), self.assertRaises(ValueError):
                Image.base().add_file("/f", b"", bad)

    def test_content_of_text_and_bytes(self):
        text = Image.base().add_file("/f", "gr\u00fc\u00df")
        data = Image.base().add_file("/f", "gr\u00fc\u00df".encode("utf-8"))
        self.assertEqual(text, data)
        self.assertNotIn("mode", text.to_dict()["steps"][0]["args"])

    def test_unknown_members_of_a_manifest(self):
        with self.assertRaises(ValueError):
            Image.from_dict({"base": "base", "steps": [], "name": "x"})


class LocalFiles(unittest.TestCase):
    def setUp(self):
        held = tempfile.TemporaryDirectory()
        self.addCleanup(held.cleanup)
        self.top = Path(held.name, "tree")
        self.top.mkdir()

    def write(self, name, content=b"x", mode=0o644):
        path = self.top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
        return path

    def args(self):
        return Image.base().add_local_dir(self.top, "/d").to_dict()["steps"][0]["args"]

    def test_file_with_its_mode(self):
        path = self.write("run", b"#!/bin/sh\n", 0o755)
        link = self.top / "link"
        link.symlink_to("run")
        wanted = Image.base().add_file("/run", b"#!/bin/sh\n", 0o755)
        self.assertEqual(Image.base().add_local_file(path, "/run"), wanted)
        self.assertEqual(Image.base().add_local_file(str(link), "/run"), wanted)

    def test_what_is_no_file(self):
        with self.assertRaises(OSError):
            Image.base().add_local_file(self.top / "none", "/f")
        with self.assertRaises(OSError):
            Image.base().add_local_file(self.top, "/f")
        with self.assertRaises(ValueError):
            Image.base().add_local_file("/dev/null", "/f")
        with self.assertRaises(OSError):
            Image.base().add_local_dir(self.write("f"), "/d")
        os.mkfifo(self.top / "fifo")
        with self.assertRaises(ValueError):
            self.args()

    def test_directory(self):
        for name in "a-b", "a/b", "a.b", "z/\U0001f600", "z/\uff5e":
            self.write(name)
        self.write("a/private", b"\xff\x00", 0o600)
        (self.top / "empty").mkdir()
        (self.top / "empty").chmod(0o1777)
        (self.top / "a" / "dangling").symlink_to("../no/where")
        (self.top / "loop").symlink_to(".")
        (self.top / "a").chmod(0o750)
        (self.top / "z").chmod(0o755)
        args = self.args()
        self.assertEqual(args["path"], "/d")
        self.assertEqual(
            args["dirs"],
            [
                {"relativePath": "a", "mode": "0750"},
                {"relativePath": "empty", "mode": "1777"},
                {"relativePath": "z", "mode": "0755"},
            ],
        )
        # In the order of UTF-8 bytes: "-" and "." come before "/", U+FF5E before U+1F600.
        self.assertEqual(
            args["files"],
            [
                {"relativePath": "a-b", "content": "eA==", "mode": "0644"},
                {"relativePath": "a.b", "content": "eA==", "mode": "0644"},
                {"relativePath": "a/b", "content": "eA==", "mode": "0644"},
                {"relativePath": "a/dangling", "target": "../no/where"},
                {"relativePath": "a/private", "content": "/wA=", "mode": "0600"},
                {"relativePath": "loop", "target": "."},
                {"relativePath": "z/\uff5e", "content": "eA==", "mode": "0644"},
                {"relativePath": "z/\U0001f600", "content": "eA==", "mode": "0644"},
            ],
        )

    def test_without_directories_there_are_no_dirs(self):
        self.write("f")
        self.assertNotIn("dirs", self.args())

    def test_the_key_follows_what_is_there(self):
        self.write("f", b"one")
        first = Image.base().add_local_dir(self.top, "/d")
        self.assertEqual(Image.base().add_local_dir(f"{self.top}/", "/d"), first)
        self.write("f", b"two")
        self.assertNotEqual(Image.base().add_local_dir(self.top, "/d"), first)
        self.write("f", b"one", 0o600)
        self.assertNotEqual(Image.base().add_local_dir(self.top, "/d"), first)

    def test_names_that_are_not_utf8(self):
        with open(os.path.join(os.fsencode(self.top), b"\xff"), "wb"):
            pass
        with self.assertRaises(ValueError):
            self.args()


if __name__ == "__main__":
    unittest.main()
