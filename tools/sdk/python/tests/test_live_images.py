"""Images, builds and snapshots of a real daemon."""
import os
import tempfile
import threading
import time
import unittest
from pathlib import Path

from varve import (
    BuildError,
    Builds,
    ConflictError,
    Image,
    Images,
    InvalidRequestError,
    NotFoundError,
    Snapshots,
    WaitTimeoutError,
)

from .live import RUN, SLEEP, Live, Log, common_image, live


def failing_image(note):
    return Image.base().run_commands(f"echo {note} {RUN}").run_commands("echo last words; exit 3")


@live
class LiveImages(Live):
    def test_logs_come_while_it_is_built_and_then_it_is_cached(self):
        # Not the common one, so that it is built here whatever ran before.
        image = (
            Image.base()
            .env({"FIRST": RUN})
            .run_commands("echo early; echo wrong >&2", f"sleep {SLEEP}", "echo late")
            .builder_memory(1024)
        )
        log, start = Log(), time.monotonic()
        sandbox = self.sandbox(image=image, on_build_log=log)
        end = time.monotonic()
        early, late, wrong = log.find("early"), log.find("late"), log.find("wrong")
        self.assertEqual([len(early), len(late), len(wrong)], [1, 1, 1])
        self.assertGreaterEqual(end - log.times[early[0]], SLEEP * 0.9)
        self.assertGreaterEqual(log.times[late[0]] - log.times[early[0]], SLEEP * 0.9)
        line = log.lines[early[0]]
        self.assertEqual((line.type, line.stream), ("run", "stdout"))
        self.assertEqual(log.lines[wrong[0]].stream, "stderr")
        self.assertEqual(line.step, 2)
        self.assertEqual(sandbox.exec.run("echo $FIRST").stdout.strip(), RUN)

        before, again, built = self.number_of_builds(), Log(), end - start
        start = time.monotonic()
        second = self.sandbox(image=image, on_build_log=again)
        self.assertLess(time.monotonic() - start, built)
        self.assertEqual(again.find("early"), [])
        self.assertEqual(self.number_of_builds(), before)
        self.assertNotEqual(second.id, sandbox.id)
        self.assertIn(image.cache_key(), [i.content_hash for i in Images().list()])

    def test_without_a_name(self):
        image, images = Image.base().run_commands(f"echo nameless {RUN}"), Images()
        log = Log()
        built = images.build(image, on_build_log=log)
        self.assertEqual((built.content_hash, built.cached), (image.cache_key(), False))
        self.assertEqual(Builds().get(built.build_id).snapshot_id, built.snapshot_id)
        self.assertEqual(len(log.find(f"nameless {RUN}")), 1)
        again = images.build(image)
        self.assertEqual((again.snapshot_id, again.cached), (built.snapshot_id, True))
        forced = images.build(image, force=True)
        self.assertFalse(forced.cached)
        images.delete(image.cache_key())
        self.assertNotIn(image.cache_key(), [i.content_hash for i in images.list()])
        with self.assertRaises(NotFoundError):
            images.delete(image.cache_key())

    def test_what_the_steps_leave_behind(self):
        sandbox = self.sandbox(image=common_image())
        result = sandbox.exec.run('pwd; ./hello.sh world; printf %s "$GREETING"', check=True)
        greeting = "gr\u00fc\u00df \"gott\" $HOME `id`\n'2nd line'"
        self.assertEqual(result.stdout, f"/srv/app\nhello world\n{greeting}")
        self.assertEqual(sandbox.files.read("/srv/app/here"), "/srv/app\n")
        self.assertEqual(sandbox.files.read("/srv/app/greeting"), greeting)

    def test_local_files(self):
        with tempfile.TemporaryDirectory() as held:
            top = Path(held)
            (top / "sub" / "empty").mkdir(parents=True)
            (top / "sub" / "run").write_bytes(b"#!/bin/sh\necho ran\n")
            (top / "sub" / "run").chmod(0o700)
            (top / "data \U0001f600").write_bytes(bytes(range(256)))
            (top / "link").symlink_to("sub/run")
            os.chmod(top / "sub", 0o2750)
            image = Image.base().add_local_dir(top, "/opt/tree")
            image = image.add_local_file(top / "sub" / "run", "/opt/alone")
        sandbox = self.sandbox(image=image)
        read = 'cd /opt/tree && stat -c "%A %n" sub sub/* ../alone && readlink link && ./link'
        lines = sandbox.exec.run(read, check=True).stdout.splitlines()
        self.assertEqual(lines, [
            "drwxr-s--- sub", "drwxr-xr-x sub/empty", "-rwx------ sub/run",
            "-rwx------ ../alone", "sub/run", "ran",
        ])
        data = sandbox.files.read_bytes("/opt/tree/data \U0001f600")
        self.assertEqual(data, bytes(range(256)))

    def test_a_build_that_fails(self):
        log, image = Log(), failing_image("fails")
        with self.assertRaises(BuildError) as caught:
            self.sandbox(image=image, on_build_log=log)
        self.assertEqual(caught.exception.step, 2)
        self.assertIn("3", caught.exception.message)
        self.assertEqual(len(log.find("last words")), 1)
        build = next(b for b in Builds().list() if b.content_hash == image.cache_key())
        self.assertEqual((build.state, build.step_count), ("failed", 2))
        self.assertTrue(build.error)
        self.assertEqual(Builds().get(build.id).state, "failed")
        lines = []
        with self.assertRaises(BuildError):
            for line in Builds().logs(build.id):
                lines.append(line.message)
        self.assertIn("last words", lines)
        self.assertNotIn(image.cache_key(), [i.content_hash for i in Images().list()])

    def test_manifests_that_are_refused(self):
        for image, wanted in (
            (Image.base().workdir("/ok").workdir("relative"), "step 2"),
            (Image.base().apt_install(["--force-yes"]), "step 1"),
            (Image.base().env({"A B": "1"}), "step 1"),
        ):
            with self.subTest(wanted), self.assertRaises(InvalidRequestError) as caught:
                self.sandbox(image=image)
            self.assertIn(wanted, caught.exception.message)
        with self.assertRaises(BuildError) as caught:
            self.sandbox(image=Image.from_snapshot(f"none-{RUN}"))
        self.assertIn(f"none-{RUN}", caught.exception.message)

    def test_a_build_can_be_followed_and_cancelled(self):
        image = Image.base().run_commands(f"echo begun {RUN}; sleep 600")
        name = f"py-cancelled-{RUN}"
        info = Snapshots().start(name, image)
        self.addCleanup(Snapshots().delete, name)
        self.assertEqual(info.status, "building")
        self.assertTrue(info.build_id)
        with self.assertRaises(WaitTimeoutError):
            Snapshots().wait_until_ready(name, timeout=0.1)
        with self.assertRaises(BuildError):
            for line in Builds().logs(info.build_id):
                if line.message == f"begun {RUN}":
                    Builds().cancel(info.build_id)
        self.assertEqual(Builds().get(info.build_id).state, "cancelled")
        with self.assertRaises(BuildError):
            Snapshots().wait_until_ready(name, timeout=60)
        with self.assertRaises(NotFoundError):
            Builds().get("00000000-0000-4000-8000-000000000000")

    def test_one_build_for_many(self):
        image = Image.base().run_commands(f"echo shared {RUN}", "sleep 1")
        before, logs = self.number_of_builds(), [Log() for _ in range(5)]
        made = []

        def make(log):
            made.append(self.sandbox(image=image, on_build_log=log))

        threads = [threading.Thread(target=make, args=[log]) for log in logs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len({s.id for s in made}), 5)
        self.assertEqual(self.number_of_builds(), before + 1)
        for log in logs:
            self.assertEqual(len(log.find(f"shared {RUN}")), 1)


@live
class LiveSnapshots(Live):
    def test_create_list_get_use_rename_delete(self):
        snapshots, log = Snapshots(), Log()
        name, other = f"py-{RUN}", f"py-other-{RUN}"
        image = common_image().add_file("/snap", "in the snapshot")
        info = snapshots.create(name, image, on_build_logs=log)
        self.assertEqual((info.name, info.status), (name, "ready"))
        self.assertEqual(info.content_hash, image.cache_key())
        self.assertEqual(info.manifest, image.to_dict())
        self.assertTrue(info.id and info.checkpoint_id and info.created_at.endswith("Z"))
        self.assertTrue(log.lines)
        self.assertIn(name, [s.name for s in snapshots.list()])
        self.assertEqual(snapshots.get(name).id, info.id)
        cached = next(i for i in Images().list() if i.content_hash == image.cache_key())
        self.assertEqual((cached.base, cached.names), ("base", (name,)))
        self.assertIn(cached.snapshot_id, [s.id for s in snapshots.list(everything=True)])
        self.assertNotIn(cached.snapshot_id, [s.id for s in snapshots.list()])
        with self.assertRaises(ConflictError):
            snapshots.create(name, image)
        with self.assertRaises(ConflictError):
            snapshots.start(name, image)

        sandbox = self.sandbox(snapshot=name)
        self.assertEqual(sandbox.files.read("/snap"), "in the snapshot")
        derived = self.sandbox(image=Image.from_snapshot(name).run_commands("cp /snap /copy"))
        self.assertEqual(derived.files.read("/copy"), "in the snapshot")
        self.assertEqual(derived.exec.run("pwd").stdout, "/srv/app\n")

        self.assertEqual(snapshots.rename(name, other).name, other)
        with self.assertRaises(NotFoundError):
            snapshots.get(name)
        self.assertTrue(snapshots.pin(other, True).raw["pinned"])
        snapshots.pin(other, False)
        snapshots.delete(other)
        with self.assertRaises(NotFoundError):
            snapshots.delete(other)
        with self.assertRaises(NotFoundError):
            self.sandbox(snapshot=other)
        self.assertEqual(sandbox.files.read("/snap"), "in the snapshot")

    def test_without_waiting(self):
        name = f"py-async-{RUN}"
        image = Image.base().run_commands(f"sleep 1; echo {RUN} >/made")
        self.assertEqual(Snapshots().start(name, image).status, "building")
        self.assertIn(name, [s.name for s in Snapshots().list()])
        info = Snapshots().wait_until_ready(name, timeout=120)
        self.assertEqual((info.status, info.content_hash), ("ready", image.cache_key()))
        Snapshots().delete(name)

    def test_one_that_fails(self):
        name = f"py-failed-{RUN}"
        with self.assertRaises(BuildError):
            Snapshots().create(name, failing_image("snapshot"))
        # Its name is free again.
        good = Snapshots().create(name, common_image())
        self.assertEqual(good.status, "ready")
        Snapshots().delete(name)


if __name__ == "__main__":
    unittest.main()
