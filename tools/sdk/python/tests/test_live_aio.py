"""The same for asyncio, of a real daemon."""
import asyncio
import os
import time
import unittest

from varve import (
    AsyncBuilds,
    AsyncClient,
    AsyncImages,
    AsyncSandbox,
    AsyncSnapshots,
    AuthenticationError,
    BuildError,
    CommandError,
    ConflictError,
    Image,
    NotFoundError,
    WaitTimeoutError,
)

from .live import RUN, SLEEP, Log, common_image, live


class AsyncLive(unittest.IsolatedAsyncioTestCase):
    async def sandbox(self, **options):
        sandbox = await AsyncSandbox.create(**options)
        self.addAsyncCleanup(self.kill, sandbox)
        return sandbox

    async def kill(self, sandbox):
        if await sandbox.is_running():
            await sandbox.kill()


@live
class LiveAsync(AsyncLive):
    async def test_logs_come_while_it_is_built_and_then_it_is_cached(self):
        image = common_image().run_commands("echo aio early", f"sleep {SLEEP}", "echo aio late")
        log = Log()

        async def on_log(line):
            log(line)

        box = await self.sandbox(image=image, on_build_log=on_log)
        early, late = log.find("aio early"), log.find("aio late")
        self.assertEqual([len(early), len(late)], [1, 1])
        self.assertGreaterEqual(log.times[late[0]] - log.times[early[0]], SLEEP * 0.9)
        before = len(await AsyncBuilds().list())
        others = await asyncio.gather(*(self.sandbox(image=image) for _ in range(10)))
        self.assertEqual(len({s.id for s in [box, *others]}), 11)
        self.assertEqual(len(await AsyncBuilds().list()), before)
        self.assertIn(image.cache_key(), [i.content_hash for i in await AsyncImages().list()])
        runs = [s.exec.run(f"./hello.sh {n}") for n, s in enumerate(others)]
        results = await asyncio.gather(*runs)
        self.assertEqual([r.stdout for r in results], [f"hello {n}\n" for n in range(10)])
        self.assertIn(box.id, [s.sandbox_id for s in await AsyncSandbox.list()])

    async def test_commands_wait_side_by_side(self):
        box = await self.sandbox()
        start = time.monotonic()
        results = await asyncio.gather(*(box.exec.run(f"sleep 1; exit {n}") for n in range(8)))
        self.assertEqual([r.exit_code for r in results], list(range(8)))
        self.assertLess(time.monotonic() - start, 6)
        process = await box.exec.run_async("sleep 1; cat", stdin=b"done\n")
        with self.assertRaises(WaitTimeoutError):
            await process.wait(timeout=0.05)
        self.assertEqual((await process.wait(timeout=60)).stdout, "done\n")
        with self.assertRaises(CommandError):
            await box.exec.run("exit 1", check=True)
        told = []

        async def tell(output):
            told.append(output.data)

        await box.exec.run("echo one; sleep 0.5; echo two", on_output=tell)
        self.assertEqual((told[0], b"".join(told)), (b"one\n", b"one\ntwo\n"))
        with self.assertRaises(asyncio.TimeoutError):
            await asyncio.wait_for(box.exec.run("sleep 60"), 0.5)
        self.assertTrue(await box.is_running())
        same = await AsyncSandbox.connect(box.id)
        await same.set_timeout(0)
        self.assertEqual((await same.exec.run("echo same")).stdout, "same\n")

    async def test_files(self):
        files = (await self.sandbox()).files
        piece = os.urandom(1 << 20)

        async def pieces():
            for _ in range(20):
                await asyncio.sleep(0)
                yield piece

        await files.write("/d/big", pieces())
        self.assertEqual(await files.read_bytes("/d/big"), piece * 20)
        await files.write("/d/text", "gr\u00fc\u00df")
        self.assertEqual(await files.read("/d/text"), "gr\u00fc\u00df")
        await files.write("/d/plain", iter([b"a", b"b"]))
        self.assertEqual({e.name: e.size for e in await files.list("/d")},
                         {"big": 20 << 20, "text": 6, "plain": 2})
        async for data in files.stream("/d/big"):
            self.assertTrue(data)
            break
        await files.make_dir("/d/sub")
        self.assertTrue(await files.exists("/d/sub"))
        await files.remove("/d")
        self.assertFalse(await files.exists("/d/text"))
        with self.assertRaises(NotFoundError):
            await files.read("/d/text")

    async def test_checkpoints(self):
        async with await AsyncSandbox.create() as box:
            await box.files.write("/state", "one")
            point = await box.create_checkpoint("one", retention=3)
            self.assertEqual(point.status, "ready")
            with self.assertRaises(ConflictError):
                await box.create_checkpoint("one")
            await box.files.write("/state", "two")
            patch = await AsyncSandbox.create_checkpoint_patch(point.id, "echo p >/patched")
            self.assertEqual((await AsyncSandbox.list_checkpoint_patches(point.id))[0].id, patch.id)
            fork = await AsyncSandbox.create_from_checkpoint(point.id)
            self.addAsyncCleanup(self.kill, fork)
            self.assertEqual(await fork.files.read("/state"), "one")
            self.assertEqual(await fork.files.read("/patched"), "p\n")
            await AsyncSandbox.delete_checkpoint_patch(point.id, patch.id)
            await box.restore_checkpoint(point.id)
            self.assertEqual(await box.files.read("/state"), "one")
            await box.delete_checkpoint(point.id)
            self.assertEqual(await box.list_checkpoints(), [])
            with self.assertRaises(NotFoundError):
                await box.restore_checkpoint(point.id)
        self.assertFalse(await box.is_running())

    async def test_snapshots_and_builds(self):
        snapshots, name = AsyncSnapshots(), f"aio-{RUN}"
        image = Image.base().run_commands(f"echo aio snapshot {RUN}; sleep 1")
        info = await snapshots.start(name, image)
        lines = [line.message async for line in AsyncBuilds().logs(info.build_id)]
        self.assertIn(f"aio snapshot {RUN}", lines)
        ready = await snapshots.wait_until_ready(name, timeout=60)
        self.assertEqual((ready.status, ready.content_hash), ("ready", image.cache_key()))
        self.assertEqual((await AsyncBuilds().get(info.build_id)).state, "ready")
        self.assertTrue((await AsyncImages().build(image)).cached)
        with self.assertRaises(ConflictError):
            await snapshots.create(name, image)
        self.assertEqual((await snapshots.rename(name, name + "-2")).name, name + "-2")
        self.assertIn(name + "-2", [s.name for s in await snapshots.list()])
        await snapshots.delete(name + "-2")
        with self.assertRaises(NotFoundError):
            await snapshots.get(name + "-2")
        bad = Image.base().run_commands(f"echo {RUN}; exit 9")
        with self.assertRaises(BuildError) as caught:
            await snapshots.create(name, bad)
        self.assertEqual(caught.exception.step, 1)

    async def test_tcp(self):
        url, key = os.environ["VARVE_LIVE_URL"], os.environ["VARVE_LIVE_KEY"]
        client = AsyncClient(url=url, api_key=key)
        box = await self.sandbox(image=common_image(), client=client)
        self.assertEqual((await box.exec.run("./hello.sh tcp")).stdout, "hello tcp\n")
        with self.assertRaises(AuthenticationError):
            await AsyncSandbox.list(client=AsyncClient(url=url, api_key="wrong"))


if __name__ == "__main__":
    unittest.main()
