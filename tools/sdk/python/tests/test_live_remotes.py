"""Buckets that a real daemon shares snapshots in."""
import tempfile
import unittest

from varve import ConflictError, NotFoundError, Remotes, Snapshots

from .live import RUN, Live, common_image, live


@live
class LiveRemotes(Live):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="varve-remotes-")
        self.addCleanup(directory.cleanup)
        self.url = "file://" + directory.name
        self.remotes = Remotes()
        self.snapshots = Snapshots()
        self.name = f"py-remote-{RUN}"
        self.bucket = f"py-{RUN}"
        self.snapshots.create(self.name, common_image())
        self.addCleanup(self.snapshots.delete, self.name)

    def test_a_snapshot_travels(self):
        info = self.remotes.add(self.bucket, self.url)
        self.assertEqual((info.name, info.url, info.read_only), (self.bucket, self.url, False))
        with self.assertRaises(ConflictError):
            self.remotes.add(self.bucket, self.url)
        self.assertIn(self.bucket, [r.name for r in self.remotes.list()])
        self.assertTrue(self.remotes.check(self.bucket).usable)

        pushed = self.snapshots.push(self.name, self.bucket, "shared")
        self.assertEqual((pushed.name, pushed.existed), ("shared", False))
        self.assertGreater(pushed.bytes, 0)
        again = self.snapshots.push(self.name, self.bucket, "shared", repair=True)
        self.assertEqual((again.existed, again.damaged_packs), (True, 0))
        self.assertEqual([s.name for s in self.remotes.snapshots(self.bucket)], ["shared"])
        other = f"py-pulled-{RUN}"
        self.assertEqual(self.snapshots.pull(self.bucket, "shared", other).name, other)
        box = self.sandbox(snapshot=f"{self.bucket}:shared")
        self.assertIn("hello", box.files.read("/srv/app/hello.sh"))
        with self.assertRaises(NotFoundError):
            self.snapshots.pull(self.bucket, "none")
        self.snapshots.delete(other)

        self.assertEqual(self.remotes.verify(self.bucket, deep=True).problems, [])
        self.assertTrue(self.remotes.delete(self.bucket, "shared"))
        self.assertEqual(self.remotes.gc(self.bucket, grace_seconds=0).snapshots, 0)
        self.remotes.remove(self.bucket)
        with self.assertRaises(NotFoundError):
            self.remotes.check(self.bucket)


if __name__ == "__main__":
    unittest.main()
