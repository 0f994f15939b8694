"""Sandboxes of a real daemon: commands, files, checkpoints."""
import hashlib
import os
import time
import unittest

from varve import (
    AuthenticationError,
    Client,
    CommandError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    Sandbox,
    VarveError,
    WaitTimeoutError,
)

from .live import RUN, Live, common_image, live


@live
class LiveSandboxes(Live):
    def test_life(self):
        sandbox = self.sandbox(metadata={"run": RUN}, envs={"MINE": "1"}, memory_mb=256, timeout=60)
        self.assertEqual(sandbox.status, "running")
        self.assertTrue(sandbox.is_running())
        self.assertEqual(sandbox.info.template_id, "base")
        self.assertEqual(sandbox.info.metadata, {"run": RUN})
        self.assertTrue(sandbox.info.started_at.endswith("Z"))
        self.assertEqual(sandbox.exec.run("echo $MINE; . /etc/os-release; echo $ID").stdout,
                         "1\ndebian\n")
        same = Sandbox.connect(sandbox.id)
        same.files.write("/tmp/x", "shared")
        self.assertEqual(sandbox.files.read("/tmp/x"), "shared")
        self.assertIn(sandbox.id, [s.sandbox_id for s in Sandbox.list()])
        sandbox.set_timeout(0)
        sandbox.kill()
        self.assertFalse(sandbox.is_running())
        self.assertNotIn(sandbox.id, [s.sandbox_id for s in Sandbox.list()])
        for call in sandbox.kill, lambda: sandbox.exec.run("true"), lambda: same.files.list("/"):
            with self.assertRaises(NotFoundError):
                call()
        with self.assertRaises(NotFoundError):
            Sandbox.connect("sb-0000000000000000")

    def test_as_a_context_manager(self):
        with Sandbox.create() as sandbox:
            self.assertTrue(sandbox.is_running())
        self.assertFalse(sandbox.is_running())
        with Sandbox.create() as sandbox:
            sandbox.kill()

    def test_idle_ones_are_stopped_and_started_again(self):
        sandbox = self.sandbox(timeout=1)
        sandbox.files.write("/srv/kept", "kept")
        deadline = time.monotonic() + 30
        status = "running"
        while status == "running" and time.monotonic() < deadline:
            time.sleep(0.5)
            status = next(s.status for s in Sandbox.list() if s.sandbox_id == sandbox.id)
        self.assertEqual(status, "stopped")
        self.assertEqual(sandbox.exec.run("cat /srv/kept").stdout, "kept")

    def test_refused(self):
        with self.assertRaises(NotFoundError):
            self.sandbox(snapshot=f"none-{RUN}")
        with self.assertRaises(InvalidRequestError):
            self.sandbox(memory_mb=1)


@live
class LiveCommands(Live):
    def test_results(self):
        run = self.sandbox().exec.run
        result = run("echo out; echo err >&2; exit 3")
        self.assertEqual((result.exit_code, result.stdout, result.stderr), (3, "out\n", "err\n"))
        self.assertEqual(run("printf %s \"$A\"", env={"A": "x y\nz"}).stdout, "x y\nz")
        self.assertEqual(run("pwd", cwd="/usr/lib").stdout, "/usr/lib\n")
        self.assertEqual(run("printf", ["%s|", "a b", "$HOME", "*"]).stdout, "a b|$HOME|*|")
        self.assertEqual(run("id", ["-u"]).stdout, "0\n")
        self.assertEqual(run("cat", stdin="t\u00e9xt").stdout, "t\u00e9xt")
        self.assertEqual(run("od -An -tx1", stdin=b"\0\xff").stdout, " 00 ff\n")
        result = run("(sleep 2; echo late) & echo now")
        self.assertEqual((result.stdout, result.truncated), ("now\nlate\n", False))
        result = run("sleep 100 & echo now", linger=0.2)
        self.assertEqual((result.stdout, result.truncated), ("now\n", True))
        self.assertEqual(run("kill -9 $$").exit_code, 128 + 9)
        self.assertEqual(run("/nonexistent", []).exit_code, 127)
        self.assertEqual(run("/etc/passwd", []).exit_code, 126)
        self.assertEqual(len(run("head -c 3000000 /dev/zero | tr '\\0' x").stdout), 3000000)
        with self.assertRaises(CommandError) as caught:
            run("echo why >&2; exit 7", check=True)
        self.assertEqual(caught.exception.exit_code, 7)
        self.assertIn("why", str(caught.exception))
        with self.assertRaises(InvalidRequestError):
            run("true", cwd="relative")

    def test_output_as_it_comes(self):
        run, told = self.sandbox().exec.run, []

        def tell(output):
            told.append((time.monotonic(), output.stream, output.data))

        result = run("echo one; sleep 1; echo two >&2; printf 'a\\0\\377'; exit 3", on_output=tell)
        self.assertEqual((result.exit_code, result.stdout, result.stderr), (3, "", ""))
        self.assertEqual(told[0][1:], ("stdout", b"one\n"))
        self.assertGreaterEqual(told[-1][0] - told[0][0], 0.9)
        out = b"".join(data for _, stream, data in told if stream == "stdout")
        err = b"".join(data for _, stream, data in told if stream == "stderr")
        self.assertEqual((out, err), (b"one\na\0\xff", b"two\n"))
        told.clear()
        run("head -c 30000000 /dev/zero | tr '\\0' x", on_output=tell)
        self.assertEqual(sum(len(data) for _, _, data in told), 30000000)

    def test_timeout(self):
        start = time.monotonic()
        result = self.sandbox().exec.run("echo before; sleep 60", timeout=1)
        self.assertEqual((result.exit_code, result.stdout), (124, "before\n"))
        self.assertLess(time.monotonic() - start, 30)

    def test_on_their_own(self):
        sandbox = self.sandbox()
        process = sandbox.exec.run_async("echo begun; sleep 2; cat; exit 5", stdin="done\n")
        self.assertTrue(process.result().running)
        with self.assertRaises(WaitTimeoutError):
            process.wait(timeout=0.1)
        result = process.wait(timeout=60)
        self.assertEqual((result.exit_code, result.stdout), (5, "begun\ndone\n"))
        again = sandbox.exec.result(process.exec_id)
        self.assertEqual((again.running, again.exit_code), (False, 5))
        with self.assertRaises(NotFoundError):
            sandbox.exec.result("00000000-0000-4000-8000-000000000000")


@live
class LiveFiles(Live):
    def setUp(self):
        self.box = self.sandbox()
        self.files = self.box.files

    def test_text_and_bytes(self):
        self.files.write("/data/sub/text", "gr\u00fc\u00df\n")
        self.assertEqual(self.files.read("/data/sub/text"), "gr\u00fc\u00df\n")
        everything = bytes(range(256))
        name = "/data/a b+c%&?#\u00e4\U0001f600"
        self.files.write(name, everything)
        self.assertEqual(self.files.read_bytes(name), everything)
        with self.assertRaises(UnicodeDecodeError):
            self.files.read(name)
        self.files.write("/data/empty", b"")
        self.assertEqual(self.files.read_bytes("/data/empty"), b"")

    def test_list_make_remove_exists(self):
        self.files.make_dir("/d/e/f")
        self.files.write("/d/file", b"12345")
        entries = {e.name: e for e in self.files.list("/d")}
        self.assertEqual(set(entries), {"e", "file"})
        self.assertTrue(entries["e"].is_dir)
        self.assertEqual((entries["file"].path, entries["file"].size), ("/d/file", 5))
        self.assertFalse(entries["file"].is_dir)
        for path, wanted in (("/", True), ("/d", True), ("/d/file", True), ("/d/none", False),
                             ("/none/x", False), ("/d/file/x", False)):
            self.assertIs(self.files.exists(path), wanted, path)
        self.files.remove("/d/e")
        self.assertFalse(self.files.exists("/d/e"))
        self.files.remove("/d/file")
        self.assertEqual(self.files.list("/d"), [])
        self.files.remove("/d/file")  # gone already
        for call in self.files.read, self.files.list:
            with self.assertRaises(NotFoundError):
                call("/d/none")

    def test_large_ones_are_streamed(self):
        piece = os.urandom(1 << 20)
        count = 40

        def pieces():
            for i in range(count):
                yield piece[i:] + piece[:i]

        wanted = hashlib.sha256(b"".join(pieces())).hexdigest()
        self.files.write("/big", pieces())
        said = self.box.exec.run("sha256sum /big", check=True).stdout.split()[0]
        self.assertEqual(said, wanted)
        digest, number = hashlib.sha256(), 0
        for data in self.files.stream("/big"):
            digest.update(data)
            number += 1
        self.assertEqual(digest.hexdigest(), wanted)
        self.assertGreater(number, 1)
        for data in self.files.stream("/big"):
            break  # leaving early is fine
        self.assertEqual(self.files.read("/etc/passwd")[:5], "root:")

    def test_nothing_outside_can_be_reached(self):
        host = f"/tmp/varve-host-{RUN}"
        with open(host, "w") as file:
            file.write("of the host")
        self.addCleanup(os.remove, host)
        self.box.exec.run(f"ln -s {host} /abs; ln -s ../../../../..{host} /rel; ln -s / /root-link")
        for path in "/abs", "/rel", f"/root-link{host}", f"/../../..{host}":
            with self.assertRaises(NotFoundError):
                self.files.read(path)
        self.files.write("/abs", "of the sandbox")
        with open(host) as file:
            self.assertEqual(file.read(), "of the host")


@live
class LiveCheckpoints(Live):
    def test_create_restore_fork_delete(self):
        box = self.sandbox(image=common_image(), envs={"KEPT": "yes"})
        box.files.write("/state", "one")
        first = box.create_checkpoint("first")
        self.assertEqual((first.status, first.name, first.sandbox_id), ("ready", "first", box.id))
        with self.assertRaises(ConflictError):
            box.create_checkpoint("first")
        box.files.write("/state", "two")
        second = box.create_checkpoint("second", wait=False)
        box.wait_for_checkpoint(second.id, timeout=60)
        self.assertEqual({c.name for c in box.list_checkpoints()}, {"first", "second"})

        fork = Sandbox.create_from_checkpoint(first.id, envs={"MORE": "1"})
        self.addCleanup(self.kill, fork)
        self.assertEqual(fork.info.from_checkpoint_id, first.id)
        self.assertEqual(fork.files.read("/state"), "one")
        self.assertEqual(fork.exec.run('echo "$KEPT $MORE $RUN"; pwd').stdout,
                         f"yes 1 {RUN}\n/srv/app\n")
        fork.files.write("/state", "fork")
        self.assertEqual(box.files.read("/state"), "two")

        sleeping = "grep -lx sleep /proc/[0-9]*/comm"
        box.exec.run_async("sleep 600; true")
        self.assertEqual(box.exec.run(f"until {sleeping}; do :; done", timeout=30).exit_code, 0)
        box.restore_checkpoint(first.id)
        self.assertEqual(box.files.read("/state"), "one")
        self.assertTrue(box.is_running())
        self.assertEqual(box.exec.run(sleeping).stdout, "")
        box.restore_checkpoint(second.id)
        self.assertEqual(box.files.read("/state"), "two")

        box.delete_checkpoint(first.id)
        self.assertEqual([c.name for c in box.list_checkpoints()], ["second"])
        for call in box.delete_checkpoint, box.restore_checkpoint, Sandbox.create_from_checkpoint:
            with self.assertRaises(NotFoundError):
                call(first.id)
        self.assertEqual(fork.files.read("/state"), "fork")
        box.kill()
        late = Sandbox.create_from_checkpoint(second.id)
        self.addCleanup(self.kill, late)
        self.assertEqual(late.files.read("/state"), "two")

    def test_retention(self):
        box = self.sandbox()
        for number in range(5):
            box.files.write("/n", str(number))
            last = box.create_checkpoint(f"n{number}", retention=2)
        self.assertEqual({c.name for c in box.list_checkpoints()}, {"n3", "n4"})
        fork = Sandbox.create_from_checkpoint(last.id)
        self.addCleanup(self.kill, fork)
        self.assertEqual(fork.files.read("/n"), "4")
        with self.assertRaises(InvalidRequestError):
            box.create_checkpoint("bad", retention={"mode": "whatever"})

    def test_patches(self):
        box = self.sandbox()
        checkpoint = box.create_checkpoint("patched").id
        one = Sandbox.create_checkpoint_patch(checkpoint, "echo one >>/order", "the first")
        two = Sandbox.create_checkpoint_patch(checkpoint, "echo two >>/order")
        self.assertEqual((one.description, one.checkpoint_id), ("the first", checkpoint))
        listed = Sandbox.list_checkpoint_patches(checkpoint)
        self.assertEqual([p.id for p in listed], [one.id, two.id])
        fork = Sandbox.create_from_checkpoint(checkpoint)
        self.addCleanup(self.kill, fork)
        self.assertEqual(fork.files.read("/order"), "one\ntwo\n")
        self.assertFalse(box.files.exists("/order"))
        Sandbox.delete_checkpoint_patch(checkpoint, one.id)
        with self.assertRaises(NotFoundError):
            Sandbox.delete_checkpoint_patch(checkpoint, one.id)
        bad = Sandbox.create_checkpoint_patch(checkpoint, "echo broken >&2; exit 4")
        with self.assertRaises(VarveError) as caught:
            Sandbox.create_from_checkpoint(checkpoint)
        self.assertIn("broken", str(caught.exception))
        Sandbox.delete_checkpoint_patch(checkpoint, bad.id)
        again = Sandbox.create_from_checkpoint(checkpoint)
        self.addCleanup(self.kill, again)
        self.assertEqual(again.files.read("/order"), "two\n")
        with self.assertRaises(NotFoundError):
            Sandbox.create_checkpoint_patch("00000000-0000-4000-8000-000000000000", "true")


@live
class LiveTcp(Live):
    def test_with_a_key(self):
        url, key = os.environ["VARVE_LIVE_URL"], os.environ["VARVE_LIVE_KEY"]
        client = Client(url=url, api_key=key)
        sandbox = self.sandbox(image=common_image(), client=client)
        self.assertEqual(sandbox.exec.run("./hello.sh tcp").stdout, "hello tcp\n")
        data = os.urandom(3_000_000)
        sandbox.files.write("/data", iter([data[:7], data[7:]]))
        self.assertEqual(sandbox.files.read_bytes("/data"), data)
        for wrong in "", "x", key + "x":
            with self.assertRaises(AuthenticationError):
                Sandbox.list(client=Client(url=url, api_key=wrong))
            with self.assertRaises(AuthenticationError):
                self.sandbox(image=common_image(), client=Client(url=url, api_key=wrong))


if __name__ == "__main__":
    unittest.main()
