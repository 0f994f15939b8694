/** Images and builds of a real daemon. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { describe, test } from "node:test";
import {
  BuildError,
  Image,
  Images,
  InvalidRequestError,
  NotFoundError,
  WaitTimeoutError,
  type BuildLog,
} from "../src/index.js";
import { GREETING, Log, NO_ID, RUN, builds, common, sandbox, skip, snapshots } from "./live.js";

describe("images", { skip }, () => {
  test("logs come while it is built, and then it is cached", async () => {
    const image = Image.base()
      .env({ FIRST: RUN })
      .runCommands("echo early; echo wrong >&2", "sleep 1.5", "echo late");
    const log = new Log();
    const box = await sandbox({ image, onBuildLog: log.add });
    const { log: early, at } = log.find("early");
    assert.ok(log.find("late").at - at >= 1350, "the log came late");
    assert.deepEqual([early.type, early.stream, early.step], ["run", "stdout", 2]);
    assert.equal(log.find("wrong").log.stream, "stderr");
    assert.equal((await box.exec.run("echo $FIRST")).stdout, `${RUN}\n`);

    const before = (await builds.list()).length;
    const again = new Log();
    const start = Date.now();
    const second = await sandbox({ image, onBuildLog: again.add });
    assert.ok(Date.now() - start < 1500, "the second took as long");
    assert.notEqual(second.id, box.id);
    assert.ok(!again.lines.some((line) => line.log.message === "early"));
    assert.equal((await builds.list()).length, before);
    const keys = (await new Images().list()).map((i) => i.contentHash);
    assert.ok(keys.includes(image.cacheKey()));
  });

  test("without a name", async () => {
    const image = Image.base().runCommands(`echo nameless ${RUN}`);
    const images = new Images();
    const log = new Log();
    const built = await images.build(image, { onBuildLog: log.add });
    assert.deepEqual([built.contentHash, built.cached], [image.cacheKey(), false]);
    assert.equal((await builds.get(built.buildId)).snapshotId, built.snapshotId);
    log.find(`nameless ${RUN}`);
    const again = await images.build(image);
    assert.deepEqual([again.snapshotId, again.cached], [built.snapshotId, true]);
    assert.equal((await images.build(image, { force: true })).cached, false);
    await images.delete(image.cacheKey());
    await assert.rejects(images.delete(image.cacheKey()), NotFoundError);
  });

  test("what the steps leave behind", async () => {
    const box = await sandbox({ image: common });
    const { stdout } = await box.exec.run('pwd; ./hello.sh world; printf %s "$GREETING"', {
      check: true,
    });
    assert.equal(stdout, `/srv/app\nhello world\n${GREETING}`);
    assert.equal(await box.files.read("/srv/app/greeting"), GREETING);
  });

  test("local files", async () => {
    const top = fs.mkdtempSync(path.join(os.tmpdir(), "varve-ts-"));
    fs.mkdirSync(`${top}/sub/empty`, { recursive: true });
    fs.writeFileSync(`${top}/sub/run`, "#!/bin/sh\necho ran\n", { mode: 0o700 });
    fs.symlinkSync("sub/run", `${top}/link`);
    fs.chmodSync(`${top}/sub`, 0o2750);
    const image = Image.base()
      .addLocalDir(top, "/opt/tree")
      .addLocalFile(`${top}/link`, "/opt/alone");
    fs.rmSync(top, { recursive: true });
    const box = await sandbox({ image });
    const command = 'cd /opt/tree && stat -c "%A %n" sub sub/* ../alone && readlink link && ./link';
    const { stdout } = await box.exec.run(command, { check: true });
    assert.deepEqual(stdout.trim().split("\n"), [
      "drwxr-s--- sub",
      "drwxr-xr-x sub/empty",
      "-rwx------ sub/run",
      "-rwx------ ../alone",
      "sub/run",
      "ran",
    ]);
  });

  test("a build that fails", async () => {
    const image = Image.base().runCommands(`echo ${RUN}`).runCommands("echo last words; exit 3");
    const log = new Log();
    const building = sandbox({ image, onBuildLog: log.add });
    await assert.rejects(
      building,
      (e) => e instanceof BuildError && e.step === 2 && /3/.test(e.reason),
    );
    log.find("last words");
    const build = (await builds.list()).find((b) => b.contentHash === image.cacheKey())!;
    assert.deepEqual([build.state, build.stepCount], ["failed", 2]);
    assert.ok(build.error);
    const lines: string[] = [];
    const follow = async (): Promise<void> => {
      for await (const line of builds.logs(build.id)) lines.push(line.message);
    };
    await assert.rejects(follow(), BuildError);
    assert.ok(lines.includes("last words"));
  });

  test("manifests that are refused", async () => {
    const relative = Image.base().workdir("/ok").workdir("relative");
    const named = (e: unknown): boolean =>
      e instanceof InvalidRequestError && /step 2/.test(e.reason);
    await assert.rejects(sandbox({ image: relative }), named);
    const gone = sandbox({ image: Image.fromSnapshot(`none-${RUN}`) });
    await assert.rejects(gone, (e) => e instanceof BuildError && e.reason.includes(`none-${RUN}`));
  });

  test("a build that is followed and cancelled", async () => {
    const name = `ts-cancelled-${RUN}`;
    const image = Image.base().runCommands(`echo begun ${RUN}; sleep 600`);
    const info = await snapshots.start({ name, image });
    assert.equal(info.status, "building");
    await assert.rejects(snapshots.waitUntilReady(name, { timeoutMs: 100 }), WaitTimeoutError);
    const follow = async (): Promise<void> => {
      for await (const line of builds.logs(info.buildId)) {
        if (line.message === `begun ${RUN}`) await builds.cancel(info.buildId);
      }
    };
    await assert.rejects(follow(), BuildError);
    assert.equal((await builds.get(info.buildId)).state, "cancelled");
    await assert.rejects(snapshots.waitUntilReady(name, { timeoutMs: 60_000 }), BuildError);
    await snapshots.delete(name);
    await assert.rejects(builds.get(NO_ID), NotFoundError);
  });

  test("giving up does not stop the build", async () => {
    const image = Image.base().runCommands(`echo begun ${RUN}`, "sleep 2");
    const abort = new AbortController();
    const onBuildLog = (log: BuildLog): void => {
      if (log.message === `begun ${RUN}`) abort.abort(new RangeError("enough"));
    };
    await assert.rejects(sandbox({ image, onBuildLog, signal: abort.signal }), RangeError);
    const build = (await builds.list()).find((b) => b.contentHash === image.cacheKey())!;
    assert.notEqual(build.state, "cancelled");
    await sandbox({ image });
    assert.equal((await builds.get(build.id)).state, "ready");
  });
});
