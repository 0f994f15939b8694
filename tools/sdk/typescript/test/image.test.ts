/** Images: manifests, keys, local files. No daemon is needed. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { after, beforeEach, describe, test } from "node:test";
import { Image, type Manifest } from "../src/index.js";
import { canonicalize, type Json } from "../src/jcs.js";

interface Vectors {
  jcs: { value: Json; canonical: string }[];
  valid: { name: string; manifest: Manifest; key: string; calls?: [string, ...unknown[]][] }[];
}

const inTree = new URL("../../../../../tests/vectors/manifests.json", import.meta.url);
const vectors = JSON.parse(
  fs.readFileSync(process.env["VARVE_VECTORS"] ?? inTree, "utf8"),
) as Vectors;

/** apt_install is aptInstall here. */
function method(name: string): string {
  return name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
}

/** The image that [NAME, ARGUMENT...] lists make. */
function build(calls: [string, ...unknown[]][]): Image {
  type Methods = Record<string, (...args: unknown[]) => Image>;
  let image: unknown = Image;
  for (const [name, ...args] of calls) image = (image as Methods)[method(name)]!(...args);
  return image as Image;
}

describe("the file that all implementations are tested with", () => {
  test("canonical JSON", () => {
    assert.ok(vectors.jcs.length > 3);
    for (const v of vectors.jcs) assert.equal(canonicalize(v.value), v.canonical);
  });

  test("keys of manifests", () => {
    assert.ok(vectors.valid.length > 20);
    for (const v of vectors.valid) {
      const image = Image.fromJSON(v.manifest);
      assert.equal(image.cacheKey(), v.key, v.name);
      assert.deepEqual(image.toJSON(), v.manifest, v.name);
    }
  });

  test("calls make the manifests", () => {
    const withCalls = vectors.valid.filter((v) => v.calls);
    assert.ok(withCalls.length > 5);
    for (const v of withCalls) {
      const image = build(v.calls!);
      assert.deepEqual(image.toJSON(), v.manifest, v.name);
      assert.equal(image.cacheKey(), v.key, v.name);
    }
  });
});

test("canonical JSON refuses what has no one form", () => {
  for (const bad of [
    1.5,
    NaN,
    Infinity,
    2 ** 53 + 2,
    "\ud800",
    { "\udfff": 1 },
    undefined,
    () => 1,
    1n,
  ]) {
    assert.throws(() => canonicalize(bad as Json), TypeError);
  }
  assert.equal(canonicalize(-0), "0");
});

describe("an image is immutable", () => {
  const top = fs.mkdtempSync(path.join(os.tmpdir(), "varve-ts-"));
  after(() => fs.rmSync(top, { recursive: true }));

  test("every call returns a new one", () => {
    fs.writeFileSync(`${top}/f`, "x");
    const base = Image.base();
    const before = base.cacheKey();
    const made = [
      base.aptInstall(["a"]),
      base.pipInstall(["a"]),
      base.runCommands("true"),
      base.env({ A: "1" }),
      base.workdir("/x"),
      base.addFile("/f", "x"),
      base.addLocalFile(`${top}/f`, "/f"),
      base.addLocalDir(top, "/d"),
      base.builderMemory(512),
    ];
    for (const image of made) {
      assert.notEqual(image, base);
      assert.notDeepEqual(image.toJSON(), base.toJSON());
    }
    assert.deepEqual(base.toJSON(), { base: "base", steps: [] });
    assert.equal(base.cacheKey(), before);
  });

  test("arguments are copied, and what it shows is frozen", () => {
    const packages = ["a"];
    const variables: Record<string, string> = { A: "1" };
    const image = Image.base().aptInstall(packages).env(variables);
    const key = image.cacheKey();
    packages.push("b");
    variables["B"] = "2";
    assert.equal(image.cacheKey(), key);
    const steps = image.toJSON().steps as unknown as { args: { packages: string[] } }[];
    assert.throws(() => steps[0]!.args.packages.push("c"), TypeError);
    assert.throws(() => steps.pop(), TypeError);
    const manifest = { base: "base", steps: [] as never[] };
    Image.fromJSON(manifest);
    assert.ok(!Object.isFrozen(manifest));
  });

  test("memory is no part of the key", () => {
    const image = Image.base().runCommands("true");
    assert.equal(image.builderMemory(512).cacheKey(), image.cacheKey());
    assert.equal(image.builderMemory(512).toJSON().builderMemoryMB, 512);
  });
});

describe("arguments", () => {
  test("of the wrong type", () => {
    const base = Image.base();
    for (const call of [
      () => base.aptInstall("curl" as unknown as string[]),
      () => base.pipInstall([1] as unknown as string[]),
      () => base.runCommands(["a", "b"] as unknown as string),
      () => base.env({ A: 1 } as unknown as Record<string, string>),
      () => base.workdir(undefined as unknown as string),
      () => base.addFile("/f", "\ud800"),
      () => Image.fromSnapshot(null as unknown as string),
      () => Image.fromJSON({ base: "base", steps: [], name: "x" } as Manifest),
    ]) {
      assert.throws(call, TypeError);
    }
  });

  test("modes", () => {
    const mode = (given: number | string): unknown => {
      const step = Image.base().addFile("/f", "", given).toJSON().steps[0] as {
        args: { mode?: string };
      };
      return step.args.mode;
    };
    assert.equal(mode(0o755), "0755");
    assert.equal(mode("755"), "0755");
    assert.equal(mode("0644"), "0644");
    assert.equal(mode(0), "0000");
    assert.equal(mode(0o4755), "4755");
    for (const bad of [0o10000, -1, 1.5, "8", "rwx", ""])
      assert.throws(() => mode(bad), RangeError);
  });

  test("text and bytes", () => {
    const bytes = new Uint8Array([...Buffer.from("..gr\u00fc\u00df..")]).subarray(2, -2);
    assert.deepEqual(
      Image.base().addFile("/f", "gr\u00fc\u00df").toJSON(),
      Image.base().addFile("/f", bytes).toJSON(),
    );
  });
});

describe("local files", () => {
  const held = fs.mkdtempSync(path.join(os.tmpdir(), "varve-ts-"));
  after(() => fs.rmSync(held, { recursive: true }));
  let top = "";
  beforeEach(() => {
    top = fs.mkdtempSync(`${held}/tree-`);
  });

  function write(name: string, content: string | Uint8Array = "x", mode = 0o644): string {
    const file = path.join(top, name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, content);
    fs.chmodSync(file, mode);
    return file;
  }
  function args(): { path: string; files: unknown; dirs?: unknown } {
    const step = Image.base().addLocalDir(top, "/d").toJSON().steps[0];
    return step!.args as unknown as { path: string; files: unknown; dirs?: unknown };
  }

  test("a file with its mode", () => {
    const file = write("run", "#!/bin/sh\n", 0o755);
    fs.symlinkSync("run", `${top}/link`);
    const wanted = Image.base().addFile("/run", "#!/bin/sh\n", 0o755).toJSON();
    assert.deepEqual(Image.base().addLocalFile(file, "/run").toJSON(), wanted);
    assert.deepEqual(Image.base().addLocalFile(`${top}/link`, "/run").toJSON(), wanted);
  });

  test("what is no file", () => {
    const base = Image.base();
    assert.throws(() => base.addLocalFile(`${top}/none`, "/f"), { code: "ENOENT" });
    assert.throws(() => base.addLocalFile(top, "/f"), TypeError);
    assert.throws(() => base.addLocalFile("/dev/null", "/f"), TypeError);
    assert.throws(() => base.addLocalDir(write("f"), "/d"), { code: "ENOTDIR" });
    fs.symlinkSync("/dev/null", `${top}/link`);
    assert.deepEqual((args().files as { target?: string }[])[1]!.target, "/dev/null");
    execFileSync("mkfifo", [`${top}/fifo`]);
    assert.throws(args, TypeError);
  });

  test("a directory", () => {
    for (const name of ["a-b", "a/b", "a.b", "z/\u{1f600}", "z/\uff5e"]) write(name);
    write("a/private", new Uint8Array([0xff, 0]), 0o600);
    fs.mkdirSync(`${top}/empty`);
    fs.chmodSync(`${top}/empty`, 0o1777);
    fs.symlinkSync("../no/where", `${top}/a/dangling`);
    fs.symlinkSync(".", `${top}/loop`);
    fs.chmodSync(`${top}/a`, 0o750);
    fs.chmodSync(`${top}/z`, 0o755);
    // In the order of UTF-8 bytes: "-" and "." come before "/", U+FF5E before U+1F600.
    assert.deepEqual(args(), {
      path: "/d",
      files: [
        { relativePath: "a-b", content: "eA==", mode: "0644" },
        { relativePath: "a.b", content: "eA==", mode: "0644" },
        { relativePath: "a/b", content: "eA==", mode: "0644" },
        { relativePath: "a/dangling", target: "../no/where" },
        { relativePath: "a/private", content: "/wA=", mode: "0600" },
        { relativePath: "loop", target: "." },
        { relativePath: "z/\uff5e", content: "eA==", mode: "0644" },
        { relativePath: "z/\u{1f600}", content: "eA==", mode: "0644" },
      ],
      dirs: [
        { relativePath: "a", mode: "0750" },
        { relativePath: "empty", mode: "1777" },
        { relativePath: "z", mode: "0755" },
      ],
    });
  });

  test("without directories there are no dirs", () => {
    write("f");
    assert.ok(!("dirs" in args()));
  });

  test("names that are not UTF-8", () => {
    fs.writeFileSync(Buffer.concat([Buffer.from(`${top}/`), Buffer.from([0xff])]), "x");
    assert.throws(args, TypeError);
  });
});
