/** Buckets that a real daemon shares snapshots in. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ConflictError, NotFoundError, Remotes } from "../src/index.js";
import { RUN, common, sandbox, skip, snapshots } from "./live.js";

describe("remotes", { skip }, () => {
  const dir = mkdtempSync(join(tmpdir(), "varve-remotes-"));
  const remotes = new Remotes();
  const name = `ts-remote-${RUN}`;
  const bucket = `ts-${RUN}`;
  before(async () => {
    await snapshots.create({ name, image: common });
  });
  after(() => rmSync(dir, { recursive: true, force: true }));

  test("add, list, check", async () => {
    const info = await remotes.add(bucket, `file://${dir}`);
    assert.deepEqual([info.name, info.url, info.readOnly], [bucket, `file://${dir}`, false]);
    assert.ok(info.bucket);
    await assert.rejects(remotes.add(bucket, `file://${dir}`), ConflictError);
    assert.ok((await remotes.list()).some((r) => r.name === bucket));
    assert.equal((await remotes.check(bucket)).usable, true);
  });

  test("push, pull, and use what is there", async () => {
    const pushed = await snapshots.push(name, bucket, { name: "shared" });
    assert.deepEqual([pushed.name, pushed.existed], ["shared", false]);
    assert.ok(pushed.chunks > 0 && pushed.bytes > 0);
    const again = await snapshots.push(name, bucket, { name: "shared", repair: true });
    assert.deepEqual([again.existed, again.damagedPacks], [true, 0]);
    assert.deepEqual((await remotes.snapshots(bucket)).map((s) => s.name), ["shared"]);
    const other = `ts-pulled-${RUN}`;
    assert.equal((await snapshots.pull(bucket, "shared", { name: other })).name, other);
    const box = await sandbox({ snapshot: `${bucket}:shared` });
    assert.match(await box.files.read("/srv/app/hello.sh"), /hello/);
    await assert.rejects(snapshots.pull(bucket, "none"), NotFoundError);
    await snapshots.delete(other);
  });

  test("verify, delete, collect, remove", async () => {
    const found = await remotes.verify(bucket, { deep: true });
    assert.deepEqual([found.snapshots, found.problems], [1, []]);
    assert.equal(await remotes.delete(bucket, "shared"), true);
    assert.equal((await remotes.gc(bucket, { graceSeconds: 0 })).snapshots, 0);
    assert.deepEqual(await remotes.snapshots(bucket), []);
    await remotes.remove(bucket);
    await assert.rejects(remotes.check(bucket), NotFoundError);
    await snapshots.delete(name);
  });
});
