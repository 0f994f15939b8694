/** Named snapshots of a real daemon. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { BuildError, ConflictError, Image, Images, NotFoundError } from "../src/index.js";
import { Log, RUN, common, sandbox, skip, snapshots } from "./live.js";

describe("snapshots", { skip }, () => {
  test("create, list, get, use, rename, delete", async () => {
    const name = `ts-${RUN}`;
    const other = `ts-other-${RUN}`;
    const image = common.addFile("/snap", "in the snapshot");
    const log = new Log();
    const info = await snapshots.create({ name, image, onBuildLogs: log.add });
    assert.deepEqual([info.name, info.status, info.contentHash], [name, "ready", image.cacheKey()]);
    assert.deepEqual(info.manifest, image.toJSON());
    assert.ok(info.id && info.checkpointId && info.createdAt.endsWith("Z") && log.lines.length);
    assert.ok((await snapshots.list()).some((s) => s.name === name));
    assert.equal((await snapshots.get(name)).id, info.id);
    const cached = (await new Images().list()).find((i) => i.contentHash === image.cacheKey())!;
    assert.deepEqual([cached.base, cached.names], ["base", [name]]);
    await assert.rejects(snapshots.create({ name, image }), ConflictError);
    await assert.rejects(snapshots.start({ name, image }), ConflictError);

    const box = await sandbox({ snapshot: name });
    assert.equal(await box.files.read("/snap"), "in the snapshot");
    const derived = await sandbox({
      image: Image.fromSnapshot(name).runCommands("cp /snap /copy"),
    });
    assert.equal(await derived.files.read("/copy"), "in the snapshot");

    assert.equal((await snapshots.rename(name, other)).name, other);
    await assert.rejects(snapshots.get(name), NotFoundError);
    assert.equal((await snapshots.pin(other)).raw["pinned"], true);
    await snapshots.pin(other, false);
    await snapshots.delete(other);
    await assert.rejects(snapshots.delete(other), NotFoundError);
    await assert.rejects(sandbox({ snapshot: other }), NotFoundError);
    assert.equal(await box.files.read("/snap"), "in the snapshot");
  });

  test("one that fails leaves its name free", async () => {
    const name = `ts-failed-${RUN}`;
    const bad = Image.base().runCommands(`echo snapshot ${RUN}; exit 4`);
    await assert.rejects(snapshots.create({ name, image: bad }), BuildError);
    assert.equal((await snapshots.create({ name, image: common })).status, "ready");
    await snapshots.delete(name);
  });
});
