// Drives the published OpenComputer SDK (npm, @opencomputer/sdk) against the daemon that
// OPENCOMPUTER_API_URL and OPENCOMPUTER_API_KEY name, whose default template is a Debian root.
//   node opencomputer.mjs [--apt PACKAGE COMMAND]
// Prints "PASS what" or "FAIL what: why" a line. The SDK is found from the working directory.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.cwd()}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const { Sandbox, Image, Snapshots } = await load(
  `${process.cwd()}/node_modules/@opencomputer/sdk/dist/node.js`,
);

const api = process.env.OPENCOMPUTER_API_URL;
const headers = { "X-API-Key": process.env.OPENCOMPUTER_API_KEY };
const get = async (path) => (await fetch(`${api}/api/${path}`, { headers })).json();
const buildCount = async () => (await get("builds")).length;
const killed = [];
const keep = (sandbox) => (killed.push(sandbox), sandbox);

const pass = (what) => console.log(`PASS ${what}`);
const fail = (what, why) =>
  console.log(`FAIL ${what}: ${String(why).replaceAll("\n", "\\n").slice(0, 600)}`);
const check = (what, holds, why = "") => (holds ? pass(what) : fail(what, why));
const equal = (what, got, wanted) =>
  check(
    what,
    JSON.stringify(got) === JSON.stringify(wanted),
    `got ${JSON.stringify(got)}, wanted ${JSON.stringify(wanted)}`,
  );
async function refused(what, call, wanted) {
  try {
    await call();
    fail(what, "it worked");
  } catch (e) {
    check(what, wanted.test(e.message), e.message);
  }
}

const aptAt = process.argv.indexOf("--apt");
const apt =
  aptAt < 0 ? undefined : { name: process.argv[aptAt + 1], command: process.argv[aptAt + 2] };
const GREETING = 'gr\u00fc\u00df "gott" $HOME `id`';
const config = JSON.stringify({ key: "value", text: "\u{1f600}\u2028\u0000" });

function describeImage() {
  let image = Image.base()
    .addFile("/workspace/config.json", config)
    .env({ PROJECT_ROOT: "/workspace", GREETING })
    .workdir("/workspace/app");
  if (apt) image = image.aptInstall([apt.name]);
  return image.runCommands(
    "echo marker-early; echo marker-stderr >&2",
    "sleep 2",
    'echo marker-late; pwd >where; printf %s "$GREETING" >greeting',
  );
}

async function build() {
  const image = describeImage();
  const seen = [];
  const sandbox = keep(
    await Sandbox.create({ image, onBuildLog: (line) => seen.push({ line, at: Date.now() }) }),
  );
  const end = Date.now();
  const at = (marker) => seen.find(({ line }) => line.trim() === marker)?.at ?? NaN;
  check(
    "a build's log has its commands' output",
    at("marker-late") && at("marker-stderr"),
    seen.map((s) => s.line).join("|"),
  );
  check(
    "the log comes while it is built",
    at("marker-late") - at("marker-early") >= 1800,
    `the lines are ${at("marker-late") - at("marker-early")} ms apart`,
  );
  check(
    "and before the sandbox is there",
    end - at("marker-early") >= 1800,
    `${end - at("marker-early")} ms`,
  );
  equal("the sandbox runs", [sandbox.status, await sandbox.isRunning()], ["running", true]);
  equal("addFile", await sandbox.files.read("/workspace/config.json"), config);
  equal("runCommands saw env", await sandbox.files.read("/workspace/app/greeting"), GREETING);
  equal("and workdir", await sandbox.files.read("/workspace/app/where"), "/workspace/app\n");
  const { stdout } = await sandbox.exec.run('pwd; printf %s "$GREETING"');
  equal("env and workdir hold in the sandbox", stdout, `/workspace/app\n${GREETING}`);
  if (apt) {
    const { exitCode, stderr } = await sandbox.exec.run(apt.command);
    equal(`aptInstall: ${apt.name} runs`, exitCode, 0);
    if (exitCode) fail("its error", stderr);
    const lists = await sandbox.exec.run(
      "ls /var/lib/apt/lists | grep -c _Packages; ls /var/cache/apt/archives/*.deb",
    );
    equal("aptInstall leaves no lists and archives", lists.stdout.trim(), "0");
  }
  return image;
}

async function buildAgain(image) {
  const before = await buildCount();
  const lines = [];
  const start = Date.now();
  const sandbox = keep(
    await Sandbox.create({ image: describeImage(), onBuildLog: (line) => lines.push(line) }),
  );
  const took = Date.now() - start;
  check("the second creation is quick", took < 1800, `${took} ms`);
  equal("no build was made", await buildCount(), before);
  check("no command was run", !lines.some((line) => line.includes("marker-")), lines.join("|"));
  equal("it has the same files", await sandbox.files.read("/workspace/config.json"), config);
  const images = await get("images");
  check("the image is listed", images.length >= 1, JSON.stringify(images));
  const more = image.runCommands("echo marker-more");
  const moreLines = [];
  keep(await Sandbox.create({ image: more, onBuildLog: (line) => moreLines.push(line.trim()) }));
  check(
    "one more step runs only itself",
    moreLines.includes("marker-more") && !moreLines.includes("marker-early"),
    moreLines.join("|"),
  );
}

async function failedBuild() {
  const image = Image.base().runCommands("echo marker-before; exit 3");
  const lines = [];
  await refused(
    "a build that fails says why",
    () => Sandbox.create({ image, onBuildLog: (line) => lines.push(line.trim()) }),
    /Build failed: .*3/,
  );
  check("after its log", lines.includes("marker-before"), lines.join("|"));
  await refused(
    "a manifest that is none is refused",
    () => Sandbox.create({ image: Image.base().workdir("relative") }),
    /400/,
  );
}

async function snapshots() {
  const all = new Snapshots();
  const image = Image.base().addFile("/snap", "in the snapshot").runCommands("echo marker-snap");
  const lines = [];
  const info = await all.create({
    name: "oc-snap",
    image,
    onBuildLogs: (line) => lines.push(line.trim()),
  });
  equal("snapshot: created", [info.name, info.status], ["oc-snap", "ready"]);
  const members = ["id", "contentHash", "checkpointId", "manifest", "createdAt", "lastUsedAt"];
  equal(
    "snapshot: all members are there",
    members.filter((name) => !info[name]),
    [],
  );
  equal(
    "snapshot: its manifest",
    JSON.stringify(info.manifest.steps),
    JSON.stringify(image.toJSON().steps),
  );
  check("snapshot: build log", lines.includes("marker-snap"), lines.join("|"));
  check(
    "snapshot: listed",
    (await all.list()).some((s) => s.name === "oc-snap"),
  );
  equal("snapshot: get", (await all.get("oc-snap")).id, info.id);
  equal(
    "snapshot: waitUntilReady",
    (await all.waitUntilReady("oc-snap", { timeoutMs: 10000 })).id,
    info.id,
  );
  await refused("snapshot: a taken name", () => all.create({ name: "oc-snap", image }), /409/);
  const sandbox = keep(await Sandbox.create({ snapshot: "oc-snap" }));
  equal("snapshot: used", await sandbox.files.read("/snap"), "in the snapshot");
  await all.delete("oc-snap");
  await refused("snapshot: deleted", () => all.get("oc-snap"), /404/);
  await refused(
    "snapshot: one that is not there",
    () => Sandbox.create({ snapshot: "oc-snap" }),
    /404/,
  );
  await all.delete("oc-snap");
  equal("snapshot: its sandboxes stay", await sandbox.files.read("/snap"), "in the snapshot");
}

async function sandboxes() {
  const sandbox = keep(
    await Sandbox.create({
      envs: { MINE: "yes" },
      metadata: { who: "test" },
      memoryMB: 512,
      cpuCount: 1,
      diskMB: 1024,
      timeout: 300,
    }),
  );
  equal(
    "the default template",
    (await sandbox.exec.run(". /etc/os-release; echo $ID $MINE")).stdout,
    "debian yes\n",
  );
  const ran = await sandbox.exec.run("echo out; echo err >&2; exit 7");
  equal("exec.run", ran, { exitCode: 7, stdout: "out\n", stderr: "err\n" });
  equal(
    "exec.run: env and cwd",
    (await sandbox.exec.run('pwd; printf %s "$A"', { cwd: "/usr", env: { A: "x y" } })).stdout,
    "/usr\nx y",
  );
  equal("exec.run: a longer one", (await sandbox.exec.run("sleep 3; echo done")).stdout, "done\n");
  const timed = await sandbox.exec.run("sleep 60", { timeout: 1 });
  check("exec.run: timeout", timed.exitCode !== 0, JSON.stringify(timed));
  const alias = await sandbox.commands.run("id -u");
  equal("commands.run", alias.stdout, "0\n");
  const again = await Sandbox.connect(sandbox.sandboxId);
  equal("connect", [again.sandboxId, again.status], [sandbox.sandboxId, "running"]);
  await sandbox.setTimeout(600);
  pass("setTimeout");
  await refused("connect to none", () => Sandbox.connect("sb-0000000000000000"), /404/);
  const short = await Sandbox.create();
  await short.kill();
  equal("kill", [short.status, await short.isRunning()], ["stopped", false]);
  await refused("kill again", () => short.kill(), /404/);
  await refused(
    "what is not supported is said",
    () => Sandbox.create({ previewAuth: {} }),
    /400.*not supported/,
  );
  return sandbox;
}

async function files({ files }) {
  const bytes = Uint8Array.from({ length: 3 << 20 }, (_, i) => (i * 7 + (i >> 8)) & 255);
  await files.write("/data/deep/file", bytes);
  const back = await files.readBytes("/data/deep/file");
  check("files: bytes", Buffer.compare(Buffer.from(back), Buffer.from(bytes)) === 0, back.length);
  const name = "/data/a b&c%\u00e4";
  await files.write(name, "gr\u00fc\u00df");
  equal("files: text", await files.read(name), "gr\u00fc\u00df");
  let left = 8;
  const source = new ReadableStream({
    pull(controller) {
      if (left-- > 0) controller.enqueue(bytes.subarray(0, 1 << 20));
      else controller.close();
    },
  });
  await files.write("/data/stream", source);
  const list = await files.list("/data");
  const seen = Object.fromEntries(list.map((e) => [e.name, [e.isDir, e.path, e.size]]));
  equal(
    "files: list",
    [seen.deep?.slice(0, 2), seen.stream],
    [
      [true, "/data/deep"],
      [false, "/data/stream", 8 << 20],
    ],
  );
  await files.makeDir("/data/made/below");
  equal(
    "files: makeDir",
    (await files.list("/data/made")).map((e) => e.name),
    ["below"],
  );
  equal(
    "files: exists",
    [await files.exists(name), await files.exists("/data/none")],
    [true, false],
  );
  await files.remove("/data");
  equal("files: remove", await files.exists(name), false);
  await refused("files: one that is not there", () => files.read("/data/none"), /404/);
}

async function checkpoints(sandbox) {
  await sandbox.files.write("/state", "one");
  const first = await sandbox.createCheckpoint("first");
  const members = ["id", "sandboxId", "name", "status", "createdAt"];
  equal(
    "checkpoint: its members",
    members.filter((name) => !first[name]),
    [],
  );
  await refused("checkpoint: a taken name", () => sandbox.createCheckpoint("first"), /409/);
  await ready(sandbox, first.id);
  await sandbox.files.write("/state", "two");
  const second = await sandbox.createCheckpoint("second");
  await ready(sandbox, second.id);
  equal("checkpoint: list", (await sandbox.listCheckpoints()).map((c) => c.name).sort(), [
    "first",
    "second",
  ]);
  const fork = keep(
    await Sandbox.createFromCheckpoint(first.id, { timeout: 300, envs: { F: "1" } }),
  );
  equal(
    "checkpoint: fork",
    [await fork.files.read("/state"), (await fork.exec.run("echo $F")).stdout],
    ["one", "1\n"],
  );
  await fork.files.write("/state", "fork");
  await sandbox.restoreCheckpoint(first.id);
  equal("checkpoint: restore", await sandbox.files.read("/state"), "one");
  await sandbox.restoreCheckpoint(second.id);
  equal("checkpoint: restore the later one", (await sandbox.exec.run("cat /state")).stdout, "two");
  await patches(first.id);
  await sandbox.deleteCheckpoint(first.id);
  equal(
    "checkpoint: delete",
    (await sandbox.listCheckpoints()).map((c) => c.name),
    ["second"],
  );
  await refused(
    "checkpoint: restore one that is gone",
    () => sandbox.restoreCheckpoint(first.id),
    /404/,
  );
  await refused(
    "checkpoint: fork one that is gone",
    () => Sandbox.createFromCheckpoint(first.id),
    /404/,
  );
  await sandbox.deleteCheckpoint(first.id);
  equal("checkpoint: the fork is its own", await fork.files.read("/state"), "fork");
  for (let i = 0; i < 4; i++) {
    await sandbox.createCheckpoint(`r${i}`, {
      retentionPolicy: { mode: "delete_oldest", maxCount: 2 },
    });
  }
  equal("checkpoint: retention", (await sandbox.listCheckpoints()).map((c) => c.name).sort(), [
    "r2",
    "r3",
  ]);
}

async function ready(sandbox, id) {
  for (let i = 0; i < 100; i++) {
    const found = (await sandbox.listCheckpoints()).find((c) => c.id === id);
    if (found?.status === "ready") return;
    await new Promise((done) => setTimeout(done, 50));
  }
  fail("checkpoint: ready", id);
}

async function patches(id) {
  const { patch: one } = await Sandbox.createCheckpointPatch(id, {
    script: "echo one >>/order",
    description: "1st",
  });
  const { patch: two } = await Sandbox.createCheckpointPatch(id, { script: "echo two >>/order" });
  equal(
    "patch: list",
    (await Sandbox.listCheckpointPatches(id)).map((p) => [p.id, p.description]),
    [
      [one.id, "1st"],
      [two.id, ""],
    ],
  );
  const fork = keep(await Sandbox.createFromCheckpoint(id));
  equal("patch: run in order", await fork.files.read("/order"), "one\ntwo\n");
  await Sandbox.deleteCheckpointPatch(id, one.id);
  equal(
    "patch: delete",
    (await Sandbox.listCheckpointPatches(id)).map((p) => p.id),
    [two.id],
  );
  await Sandbox.createCheckpointPatch(id, { script: "echo broken >&2; exit 5" });
  await refused(
    "patch: a failing one is reported",
    () => Sandbox.createFromCheckpoint(id),
    /broken|5/,
  );
}

async function keys() {
  const image = Image.base().runCommands("true");
  for (const apiKey of ["wrong", ""]) {
    await refused(`key "${apiKey}": no sandbox`, () => Sandbox.create({ image, apiKey }), /401/);
    await refused(`key "${apiKey}": no list`, () => new Snapshots({ apiKey }).list(), /401/);
  }
}

async function part(name, call) {
  try {
    return await call();
  } catch (e) {
    fail(name, e.stack ?? e);
    return undefined;
  }
}

const image = await part("image build", build);
if (image) await part("second creation", () => buildAgain(image));
await part("failed build", failedBuild);
await part("snapshots", snapshots);
const sandbox = await part("sandboxes", sandboxes);
if (sandbox) await part("files", () => files(sandbox));
if (sandbox) await part("checkpoints", () => checkpoints(sandbox));
await part("keys", keys);
await part("kill", async () => {
  for (const one of killed) await one.kill();
});
console.log("END");
