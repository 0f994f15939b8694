/** Sandboxes of a real daemon: commands, files, checkpoints. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import {
  AuthenticationError,
  Client,
  CommandError,
  ConflictError,
  InvalidRequestError,
  NotFoundError,
  Sandbox,
  VarveError,
  WaitTimeoutError,
  type Output,
} from "../src/index.js";
import { NO_ID, RUN, common, forked, sandbox, skip } from "./live.js";

describe("sandboxes", { skip }, () => {
  test("a life", async () => {
    const box = await sandbox({
      metadata: { run: RUN },
      envs: { MINE: "1" },
      memoryMB: 256,
      timeout: 60,
    });
    assert.ok(box.status === "running" && (await box.isRunning()));
    assert.deepEqual([box.info.templateId, box.info.metadata], ["base", { run: RUN }]);
    assert.equal(
      (await box.exec.run("echo $MINE; . /etc/os-release; echo $ID")).stdout,
      "1\ndebian\n",
    );
    const same = await Sandbox.connect(box.id);
    assert.equal((await same.exec.run("echo same")).stdout, "same\n");
    assert.ok((await Sandbox.list()).some((s) => s.sandboxId === box.id));
    await box.setTimeout(0);
    await box.kill();
    assert.equal(await box.isRunning(), false);
    await assert.rejects(box.kill(), NotFoundError);
    await assert.rejects(same.exec.run("true"), NotFoundError);
    await assert.rejects(Sandbox.connect("sb-0000000000000000"), NotFoundError);
    await assert.rejects(sandbox({ snapshot: `none-${RUN}` }), NotFoundError);
    await assert.rejects(sandbox({ memoryMB: 1 }), InvalidRequestError);
  });

  test("commands", async () => {
    const { exec } = await sandbox();
    const { raw, ...result } = await exec.run("echo out; echo err >&2; exit 3");
    assert.ok(raw);
    const ended = { exitCode: 3, stdout: "out\n", stderr: "err\n", truncated: false };
    assert.deepEqual(result, ended);
    assert.equal((await exec.run('printf %s "$A"', { env: { A: "x y\nz" } })).stdout, "x y\nz");
    assert.equal((await exec.run("pwd", { cwd: "/usr/lib" })).stdout, "/usr/lib\n");
    assert.equal(
      (await exec.run("printf", { args: ["%s|", "a b", "$HOME", "*"] })).stdout,
      "a b|$HOME|*|",
    );
    assert.equal((await exec.run("cat", { stdin: "t\u00e9xt" })).stdout, "t\u00e9xt");
    const bytes = { stdin: Uint8Array.of(0, 255) };
    assert.equal((await exec.run("od -An -tx1", bytes)).stdout, " 00 ff\n");
    const late = await exec.run("(sleep 2; echo late) & echo now");
    assert.deepEqual([late.stdout, late.truncated], ["now\nlate\n", false]);
    const cut = await exec.run("sleep 100 & echo now", { linger: 0.2 });
    assert.deepEqual([cut.stdout, cut.truncated], ["now\n", true]);
    assert.equal((await exec.run("kill -9 $$")).exitCode, 137);
    assert.equal((await exec.run("/nonexistent", { args: [] })).exitCode, 127);
    assert.equal((await exec.run("sleep 60", { timeout: 1 })).exitCode, 124);
    const failing = exec.run("echo why >&2; exit 7", { check: true });
    await assert.rejects(
      failing,
      (e) => e instanceof CommandError && e.exitCode === 7 && /why/.test(e.message),
    );
    const lasting = exec.run("sleep 60", { signal: AbortSignal.timeout(300) });
    await assert.rejects(lasting, { name: "TimeoutError" });

    const process = await exec.runAsync("echo begun; sleep 2; exit 5");
    assert.equal((await process.result()).running, true);
    await assert.rejects(process.wait({ timeoutMs: 50 }), WaitTimeoutError);
    const end = await process.wait({ timeoutMs: 60_000 });
    assert.deepEqual([end.exitCode, end.stdout], [5, "begun\n"]);
    await assert.rejects(exec.result(NO_ID), NotFoundError);
  });

  test("output as it comes", async () => {
    const { exec } = await sandbox();
    const told: { at: number; stream: string; data: Uint8Array }[] = [];
    const onOutput = (output: Output): void => void told.push({ at: Date.now(), ...output });
    const of = (stream: string): string =>
      Buffer.concat(told.filter((t) => t.stream === stream).map((t) => t.data)).toString("latin1");
    const command = "echo one; sleep 1; echo two >&2; printf 'a\\0\\377'; exit 3";
    const { exitCode, stdout } = await exec.run(command, { onOutput });
    assert.deepEqual([exitCode, stdout], [3, ""]);
    assert.equal(Buffer.from(told[0]!.data).toString(), "one\n");
    assert.ok(told.at(-1)!.at - told[0]!.at >= 900);
    assert.deepEqual([of("stdout"), of("stderr")], ["one\na\0\xff", "two\n"]);
  });

  test("files", async () => {
    const { files, exec } = await sandbox();
    const everything = Uint8Array.from({ length: 256 }, (_, i) => i);
    const name = "/data/a b+c%&?#\u00e4\u{1f600}";
    await files.write(name, everything);
    assert.deepEqual(Buffer.from(await files.readBytes(name)), Buffer.from(everything));
    await assert.rejects(files.read(name), TypeError);
    await files.write("/data/text", "gr\u00fc\u00df\n");
    assert.equal(await files.read("/data/text"), "gr\u00fc\u00df\n");

    const piece = randomBytes(1 << 20);
    async function* pieces(): AsyncGenerator<Uint8Array> {
      for (let i = 0; i < 40; i++) yield piece;
    }
    const wanted = createHash("sha256");
    for (let i = 0; i < 40; i++) wanted.update(piece);
    const digest = wanted.digest("hex");
    await files.write("/big", pieces());
    assert.equal((await exec.run("sha256sum </big", { check: true })).stdout.split(" ")[0], digest);
    const got = createHash("sha256");
    let count = 0;
    for await (const data of files.stream("/big")) {
      got.update(data);
      count++;
    }
    assert.ok(count > 1);
    assert.equal(got.digest("hex"), digest);
    for await (const data of files.stream("/big")) {
      assert.ok(data.byteLength);
      break; // leaving early is fine
    }

    await files.makeDir("/d/e/f");
    await files.write("/d/file", "12345");
    const entries = new Map((await files.list("/d")).map((e) => [e.name, e]));
    assert.deepEqual([...entries.keys()].sort(), ["e", "file"]);
    assert.ok(entries.get("e")!.isDir && !entries.get("file")!.isDir);
    assert.deepEqual([entries.get("file")!.path, entries.get("file")!.size], ["/d/file", 5]);
    const exist = ["/", "/d", "/d/file", "/d/none", "/none/x", "/d/file/x"].map((p) =>
      files.exists(p),
    );
    assert.deepEqual(await Promise.all(exist), [true, true, true, false, false, false]);
    await files.remove("/d");
    assert.equal(await files.exists("/d/file"), false);
    await assert.rejects(files.read("/d/x"), NotFoundError);
    await assert.rejects(files.list("/d"), NotFoundError);
    await files.remove("/d"); // gone already
  });

  test("checkpoints", async () => {
    const box = await sandbox({ image: common, envs: { KEPT: "yes" } });
    await box.files.write("/state", "one");
    const first = await box.createCheckpoint("first");
    assert.deepEqual([first.status, first.name, first.sandboxId], ["ready", "first", box.id]);
    await assert.rejects(box.createCheckpoint("first"), ConflictError);
    await box.files.write("/state", "two");
    const second = await box.createCheckpoint("second", { wait: false });
    await box.waitForCheckpoint(second.id, { timeoutMs: 60_000 });
    assert.deepEqual((await box.listCheckpoints()).map((c) => c.name).sort(), ["first", "second"]);

    const fork = await forked(first.id, { envs: { MORE: "1" } });
    assert.equal(fork.info.fromCheckpointId, first.id);
    assert.equal(await fork.files.read("/state"), "one");
    assert.equal(
      (await fork.exec.run('echo "$KEPT $MORE $RUN"; pwd')).stdout,
      `yes 1 ${RUN}\n/srv/app\n`,
    );
    assert.equal(await box.files.read("/state"), "two");
    await box.restoreCheckpoint(first.id);
    assert.equal(await box.files.read("/state"), "one");

    await box.deleteCheckpoint(first.id);
    assert.deepEqual(
      (await box.listCheckpoints()).map((c) => c.name),
      ["second"],
    );
    await assert.rejects(box.deleteCheckpoint(first.id), NotFoundError);
    await assert.rejects(box.restoreCheckpoint(first.id), NotFoundError);
    await assert.rejects(forked(first.id), NotFoundError);
    for (let i = 0; i < 4; i++) await box.createCheckpoint(`n${i}`, { retention: 2 });
    assert.deepEqual((await box.listCheckpoints()).map((c) => c.name).sort(), ["n2", "n3"]);
  });

  test("patches", async () => {
    const box = await sandbox();
    const { id } = await box.createCheckpoint("patched");
    const one = await Sandbox.createCheckpointPatch(id, {
      script: "echo one >>/order",
      description: "first",
    });
    const two = await Sandbox.createCheckpointPatch(id, { script: "echo two >>/order" });
    assert.deepEqual([one.description, one.checkpointId], ["first", id]);
    assert.deepEqual(
      (await Sandbox.listCheckpointPatches(id)).map((p) => p.id),
      [one.id, two.id],
    );
    assert.equal(await (await forked(id)).files.read("/order"), "one\ntwo\n");
    await Sandbox.deleteCheckpointPatch(id, one.id);
    await assert.rejects(Sandbox.deleteCheckpointPatch(id, one.id), NotFoundError);
    const bad = await Sandbox.createCheckpointPatch(id, { script: "echo broken >&2; exit 4" });
    await assert.rejects(forked(id), (e) => e instanceof VarveError && /broken/.test(e.message));
    await Sandbox.deleteCheckpointPatch(id, bad.id);
    assert.equal(await (await forked(id)).files.read("/order"), "two\n");
    await assert.rejects(Sandbox.createCheckpointPatch(NO_ID, { script: "true" }), NotFoundError);
  });

  test("over TCP with a key", async () => {
    const url = process.env["VARVE_LIVE_URL"]!;
    const apiKey = process.env["VARVE_LIVE_KEY"]!;
    const client = new Client({ url, apiKey });
    const box = await sandbox({ image: common, client });
    assert.equal((await box.exec.run("./hello.sh tcp")).stdout, "hello tcp\n");
    const data = randomBytes(3_000_000);
    await box.files.write("/data", [data.subarray(0, 7), data.subarray(7)]);
    assert.deepEqual(Buffer.from(await box.files.readBytes("/data")), data);
    for (const wrong of ["", "x", `${apiKey}x`]) {
      const other = new Client({ url, apiKey: wrong });
      await assert.rejects(Sandbox.list({ client: other }), AuthenticationError);
      await assert.rejects(sandbox({ image: common, client: other }), AuthenticationError);
    }
  });
});
