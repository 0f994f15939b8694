/** What goes over the wire: event streams, HTTP, addresses, errors. */
import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { describe, test } from "node:test";
import {
  ApiError,
  AuthenticationError,
  BuildError,
  Builds,
  Client,
  ConflictError,
  Image,
  Images,
  InvalidRequestError,
  NoSpaceError,
  NotFoundError,
  Sandbox,
  Snapshots,
  TransportError,
  UnreachableError,
  VarveError,
  type Content,
  type Page,
} from "../src/index.js";
import { apiError } from "../src/errors.js";
import { Retry, RetryPolicy } from "../src/retry.js";
import { EventParser, type ServerEvent } from "../src/events.js";
import { CHUNKED, EVENTS, LAST, SANDBOX, chunk, event, reply, serving } from "./serve.js";

process.env["VARVE_RETRY_SECONDS"] = "0";

describe("a daemon that is being replaced", () => {
  const during = async (
    turns: string[][],
    use: (client: Client, requests: Buffer[]) => Promise<void>,
  ): Promise<void> => {
    await serving(
      [],
      (socket, requests) => use(new Client({ socket, retrySeconds: 10 }), requests),
      true,
      turns,
    );
  };
  const withHeaders = (text: string, ...lines: string[]): string =>
    text.replace("\r\n", ["", ...lines, ""].join("\r\n"));
  const KEYS = "Idempotency-Keys: 1";
  const knows = [withHeaders(reply(200, {}), KEYS)];
  const made = withHeaders(reply(201, SANDBOX), KEYS);
  const refusal = (seconds: number, ...lines: string[]): string =>
    withHeaders(reply(503, { error: "x" }), `Retry-After: ${seconds}`, ...lines);

  test("a change has one key", async () => {
    const pending = refusal(1, KEYS, "Idempotency-Pending: true");
    const turns = [knows, [""], [refusal(1, KEYS)], [pending], [made.slice(0, -5)], [made]];
    await during(turns, async (client, requests) => {
      assert.equal((await Sandbox.create({ client })).id, "sb-1");
      const keys = requests.map((r) => /^Idempotency-Key: (.*)$/m.exec(r.toString())?.[1]);
      assert.equal(keys.length, 6);
      assert.equal(new Set(keys.slice(1)).size, 1);
      assert.equal(keys[0], undefined);
      assert.ok(keys[1]);
    });
  });

  test("an older one is not sent a change twice", async () => {
    for (const first of [reply(200, {}), ""]) {
      await during([[first], [""], [reply(201, SANDBOX)]], async (client, requests) => {
        await assert.rejects(Sandbox.create({ client }), TransportError);
        assert.equal(requests.length, 2);
      });
    }
    await during([[reply(200, {})], [refusal(1)], [reply(201, SANDBOX)]], async (client) => {
      assert.equal((await Sandbox.create({ client })).id, "sb-1");
    });
  });

  test("a command is not made again once it has told something", async () => {
    const start = withHeaders(EVENTS, KEYS);
    const output = event("output", { stream: "stdout", data: "x" });
    const got: Uint8Array[] = [];
    const older = reply(400, { error: "x" });
    const turns = [knows, [made], [older], [start, output], [reply(200, {})]];
    await during(turns, async (client, requests) => {
      const sandbox = await Sandbox.create({ client });
      const onOutput = (o: { data: Uint8Array }): void => void got.push(o.data);
      await assert.rejects(sandbox.exec.run("x", { onOutput }), TransportError);
      assert.equal(requests.length, 4);
    });
    assert.equal(got.length, 1);
  });

  const begun = withHeaders(reply(200, { execId: "e-1" }), KEYS);
  const events = withHeaders(EVENTS, KEYS);
  const out = (data: string, stream = "stdout"): string => event("output", { stream, data });
  const ended = event("result", { exitCode: 3 });

  test("a command goes on, and is told once", async () => {
    const turns = [knows, [made], [begun], [events, out("one,"), out("!", "stderr")], [""]];
    turns.push([events, out("two"), ended, LAST]);
    await during(turns, async (client, requests) => {
      const { raw, ...result } = await (await Sandbox.create({ client })).exec.run("x");
      assert.deepEqual(result, { exitCode: 3, stdout: "one,two", stderr: "!", truncated: false });
      assert.match(requests[2]!.toString(), /run-async[^]*"attached":true/);
      const places = requests.slice(3).map((r) => /output\?(\S*)/.exec(r.toString())?.[1]);
      const later = "stdout=4&stderr=1";
      assert.deepEqual(places, ["stdout=0&stderr=0", later, later]);
    });
  });

  test("a command that nobody waits for any more is killed", async () => {
    const enough = (): void => {
      throw new RangeError("enough");
    };
    const turns = [knows, [made], [begun], [events, out("one")], [reply(204, "")]];
    await during([...turns], async (client, requests) => {
      const { exec } = await Sandbox.create({ client });
      await assert.rejects(exec.run("x", { onOutput: enough }), RangeError);
      assert.match(requests.at(-1)!.toString(), /^DELETE \/api\/sandboxes\/sb-1\/exec\/e-1 /);
    });
    // Also while it waits for a daemon.
    const stopping = new AbortController();
    const soon = (): void => void setTimeout(() => stopping.abort(new RangeError("enough")), 5);
    await during(turns, async (client, requests) => {
      const { exec } = await Sandbox.create({ client });
      await assert.rejects(exec.run("x", { onOutput: soon, signal: stopping.signal }));
      assert.match(requests.at(-1)!.toString(), /^DELETE /);
    });
    const gone = [knows, [made], [begun], [events, out("one")], [reply(404, { error: "x" })]];
    await during(gone, async (client, requests) => {
      const { exec } = await Sandbox.create({ client });
      await assert.rejects(exec.run("x"), TransportError);
      assert.equal(requests.length, 5);
    });
  });

  test("seconds are a number of some size", () => {
    for (const text of ["NaN", "Infinity", "-1", "86401", "a while", " "]) {
      process.env["VARVE_RETRY_SECONDS"] = text;
      const { seconds, always } = new RetryPolicy();
      assert.deepEqual([seconds, always], [10, false]);
    }
    process.env["VARVE_RETRY_SECONDS"] = "1.5";
    const { seconds, always } = new RetryPolicy();
    assert.deepEqual([seconds, always], [1.5, true]);
    process.env["VARVE_RETRY_SECONDS"] = "0";
    assert.throws(() => new RetryPolicy(NaN), RangeError);
  });

  test("who does not want to wait any more is told why", async () => {
    const reason = new Error("enough");
    const ending = new AbortController();
    const waiting = new Retry(new RetryPolicy(10), "GET").next(new TransportError("x"), ending.signal);
    ending.abort(reason);
    await assert.rejects(waiting, reason);
  });

  test("events come once", async () => {
    const log = [0, 1, 2].map((n) => event("build_log", { step: 1, message: `${n}` }));
    const start = withHeaders(EVENTS, KEYS);
    const turns = [
      knows,
      [start, log[0]!, log[1]!],
      [start, log[0]!],
      [start, ...log, event("result", SANDBOX), LAST],
    ];
    const got: string[] = [];
    await during(turns, async (client) => {
      const onBuildLog = (l: { message: string }): void => void got.push(l.message);
      assert.equal((await Sandbox.create({ client, image: Image.base(), onBuildLog })).id, "sb-1");
    });
    assert.deepEqual(got, ["0", "1", "2"]);
  });

  test("one that is away is no other", async () => {
    await during([knows, [refusal(5)], [reply(201, SANDBOX)]], async (client) => {
      await assert.rejects(Sandbox.create({ client }), ApiError);
    });
  });

  test("without one, nobody waits", async () => {
    delete process.env["VARVE_RETRY_SECONDS"];
    const client = new Client({ socket: "/nowhere/sock" });
    process.env["VARVE_RETRY_SECONDS"] = "0";
    await assert.rejects(Sandbox.create({ client }), UnreachableError);
  });
});

describe("event streams", () => {
  const STREAM = Buffer.from(
    "\ufeff: a comment\n\n" +
      'event: build_log\ndata: {"message": "caf\u00e9"}\n\n' +
      "event:two\r\ndata:one\r\ndata: two\r\ndata:  three\r\n\r\n" +
      "data\rid: 7\rretry: 5\rdata: x:y\r\r" +
      "event: nothing\n\n" +
      ": again\nunknown: x\ndata: last\n: inside\n\n" +
      "data: not ended\n",
  );
  const WANTED = [
    { name: "build_log", data: '{"message": "caf\u00e9"}' },
    { name: "two", data: "one\ntwo\n three" },
    { name: "message", data: "\nx:y" },
    { name: "message", data: "last" },
  ];
  const parse = (pieces: Uint8Array[]): ServerEvent[] => {
    const parser = new EventParser();
    return pieces.flatMap((piece) => [...parser.feed(piece)]);
  };

  test("whole", () => assert.deepEqual(parse([STREAM]), WANTED));

  test("cut anywhere", () => {
    for (let at = 0; at <= STREAM.length; at++) {
      assert.deepEqual(parse([STREAM.subarray(0, at), STREAM.subarray(at)]), WANTED, `at ${at}`);
    }
    assert.deepEqual(parse([...STREAM].map((byte) => Buffer.from([byte]))), WANTED);
  });

  test("an event is told as soon as it is whole", () => {
    const parser = new EventParser();
    const feed = (text: string): ServerEvent[] => [...parser.feed(Buffer.from(text))];
    assert.equal(feed("data: a\n\n").length, 1);
    assert.equal(feed("data: b\r\n\r\n").length, 1);
    assert.equal(feed("data: c\r\r").length, 1);
    assert.deepEqual(feed("\ndata: d\n\n"), [{ name: "message", data: "d" }]);
  });
});

test("errors by their status", () => {
  const kinds: [number, unknown][] = [
    [400, InvalidRequestError],
    [401, AuthenticationError],
    [404, NotFoundError],
    [409, ConflictError],
    [413, ApiError],
    [422, BuildError],
    [500, ApiError],
    [507, NoSpaceError],
  ];
  for (const [status, kind] of kinds) {
    const e = apiError(status, '{"error": "what and why"}');
    assert.equal(e.constructor, kind);
    assert.deepEqual([e.status, e.reason], [status, "what and why"]);
    assert.ok(e instanceof VarveError && e.message.includes("what and why"));
  }
  assert.equal(apiError(502, "<html>").reason, "<html>");
  assert.equal(apiError(502, "").reason, "the daemon gave no reason");
  assert.equal((apiError(422, '{"error": "x", "step": 3}') as BuildError).step, 3);
});

describe("addresses", () => {
  const NAMES = ["VARVE_API_URL", "VARVE_SOCKET", "SNAPSHOTD_SOCKET"];
  const resolve = (values: (string | undefined)[], given = {}): string => {
    const before = NAMES.map((name) => process.env[name]);
    const set = (all: (string | undefined)[]): void =>
      NAMES.forEach((name, i) => {
        if (all[i] === undefined) delete process.env[name];
        else process.env[name] = all[i];
      });
    set(values);
    try {
      return new Client(given).address;
    } finally {
      set(before);
    }
  };

  test("in this order", () => {
    const all = ["http://h:1", "/v", "/s"];
    assert.equal(resolve(all, { socket: "/given" }), "/given");
    assert.equal(resolve(all, { url: "http://x/api/" }), "http://x");
    assert.equal(resolve(all), "http://h:1");
    assert.equal(resolve([undefined, "/v", "/s"]), "/v");
    assert.equal(resolve([undefined, undefined, "/s"]), "/s");
    assert.equal(resolve([]), "/run/snapshotd.sock");
    assert.equal(resolve(all, { url: "unix:///run/x" }), "/run/x");
  });

  test("that are none", () => {
    for (const url of ["ftp://h", "h:80", "nonsense"])
      assert.throws(() => new Client({ url }), TypeError);
    assert.throws(() => new Client({ url: "http://h", socket: "/s" }), TypeError);
  });
});

function create(socket: string, options = {}): Promise<Sandbox> {
  return Sandbox.create({ client: new Client({ socket }), ...options });
}

describe("HTTP", () => {
  test("JSON both ways", () =>
    serving([reply(201, SANDBOX)], async (socket, requests) => {
      const client = new Client({ socket, apiKey: "secret" });
      const sandbox = await Sandbox.create({ client, timeout: 5, envs: { A: "1" }, memoryMB: 64 });
      assert.equal(sandbox.id, "sb-1");
      assert.deepEqual(sandbox.info.metadata, { a: "b" });
      const [head, body] = requests[0]!.toString().split("\r\n\r\n");
      assert.match(head!, /^POST \/api\/sandboxes HTTP\/1.1\r\n/);
      assert.match(head!, /\r\nX-API-Key: secret\r\n/i);
      const wanted = { templateID: "base", timeout: 5, envs: { A: "1" }, memoryMB: 64 };
      assert.deepEqual(JSON.parse(body!), wanted);
    }));

  test("pages of every list", async () => {
    const page = { limit: 2, after: "a b" };
    const box = async (client: Client): Promise<Sandbox> => Sandbox.connect("sb-1", { client });
    const lists: [string, (client: Client, page: Page) => Promise<unknown[]>][] = [
      ["/api/sandboxes", (client, p) => Sandbox.list({ client, ...p })],
      ["/api/sandboxes/checkpoints/cp/patches",
        (client, p) => Sandbox.listCheckpointPatches("cp", { client, ...p })],
      ["/api/snapshots", (client, p) => new Snapshots(client).list(p)],
      ["/api/images", (client, p) => new Images(client).list(p)],
      ["/api/builds", (client, p) => new Builds(client).list(p)],
    ];
    for (const [path, list] of lists) {
      await serving([reply(200, [])], async (socket, requests) => {
        assert.deepEqual(await list(new Client({ socket }), page), []);
        assert.ok(requests[0]!.includes(`GET ${path}?limit=2&after=a%20b HTTP/1.1`), path);
      });
      await serving([reply(200, [])], async (socket, requests) => {
        await list(new Client({ socket }), {});
        assert.ok(requests[0]!.includes(`GET ${path} HTTP/1.1`), path);
      });
    }
    // Those of a sandbox; every answer here is the sandbox, which is no list.
    await serving([reply(200, SANDBOX)], async (socket, requests) => {
      const sandbox = await box(new Client({ socket }));
      await sandbox.files.list("/d", page).catch(() => []);
      await sandbox.listCheckpoints(page).catch(() => []);
      assert.match(String(requests[1]), /files\/list\?path=[^ ]*&limit=2&after=a%20b /);
      assert.match(String(requests[2]), /checkpoints\?limit=2&after=a%20b /);
    });
  });

  test("events, cut in several ways", async () => {
    const log = { step: 2, type: "run", message: "caf\u00e9", stream: "stdout" };
    const pieces = [
      EVENTS,
      chunk(": hello\n\n"),
      event("build_log", log),
      event("result", SANDBOX),
      LAST,
    ];
    const bytes = [...Buffer.from(pieces.join(""))].map((byte) => Buffer.from([byte]));
    for (const sent of [pieces, [pieces.join("")], bytes]) {
      await serving(sent, async (socket, requests) => {
        const got: unknown[] = [];
        const onBuildLog = ({ raw, ...rest }: { raw: unknown }): void => void got.push(rest);
        const sandbox = await create(socket, { image: Image.base(), onBuildLog });
        assert.equal(sandbox.id, "sb-1");
        assert.deepEqual(got, [log]);
        assert.match(requests[0]!.toString(), /\r\nAccept: text\/event-stream\r\n/i);
      });
    }
  });

  test("failures, as a status and as an event", async () => {
    await serving([reply(409, { error: "taken" })], async (socket) => {
      const made = create(socket, { image: Image.base() });
      await assert.rejects(made, (e) => e instanceof ConflictError && e.reason === "taken");
    });
    const failed = event("error", { error: "step 2 (run): status 1", step: 2 });
    await serving([EVENTS, failed, LAST], async (socket) => {
      const made = create(socket, { image: Image.base() });
      await assert.rejects(made, (e) => e instanceof BuildError && e.step === 2);
    });
  });

  test("connections that break", async () => {
    await assert.rejects(create("/nonexistent/socket"), TransportError);
    const log = event("build_log", { message: "x" });
    for (const sent of [
      "",
      "HTTP/1.1 200 OK\r\n",
      reply(200, { a: 1 }).slice(0, -1),
      "SSH-2.0\r\n\r\n",
      `${CHUNKED}5\r\nab`,
      CHUNKED + chunk("{}"),
      EVENTS + log + LAST,
      EVENTS + log,
      reply(200, "{"),
    ]) {
      await serving([sent], (socket) =>
        assert.rejects(create(socket, { image: Image.base() }), TransportError, sent),
      );
    }
  });

  test("uploads", () =>
    serving([reply(201, SANDBOX)], async (socket, requests) => {
      const { files } = await create(socket);
      const big = Buffer.alloc(256000, "0123456789abcdef");
      const plain: [Content, Uint8Array][] = [
        ["gr\u00fcn", Buffer.from("gr\u00fcn")],
        ["", Buffer.alloc(0)],
        [new Uint8Array([1, 2, 3]).subarray(1), Buffer.from([2, 3])],
        [big, big],
      ];
      const body = (): Buffer =>
        requests.at(-1)!.subarray(requests.at(-1)!.indexOf("\r\n\r\n") + 4);
      for (const [content, wanted] of plain) {
        await files.write("/a b", content);
        assert.match(
          requests.at(-1)!.toString(),
          /^PUT \/api\/sandboxes\/sb-1\/files\?path=%2Fa%20b /,
        );
        assert.deepEqual(body(), Buffer.from(wanted));
      }
      const pieces = [Buffer.from("abc"), Buffer.from("de")];
      for (const content of [pieces, Readable.from(pieces, { objectMode: false })]) {
        await files.write("/f", content);
        assert.equal(body().toString(), `3\r\nabc\r\n2\r\nde\r\n${LAST}`);
      }
      async function* failing(): AsyncGenerator<Uint8Array> {
        yield Buffer.from("abc");
        throw new RangeError("mine");
      }
      await assert.rejects(files.write("/f", failing()), RangeError);
    }));

  test("a refused upload says why", () =>
    serving(
      [reply(404, { error: "no such sandbox" })],
      async (socket) => {
        await assert.rejects(create(socket, { metadata: { x: "y".repeat(4e6) } }), NotFoundError);
        const client = new Client({ socket });
        const content = new Array<Uint8Array>(100).fill(Buffer.alloc(100_000));
        const call = { method: "PUT", path: "/x", content } as const;
        await assert.rejects(client.send(call), NotFoundError);
      },
      false,
    ));

  test("what a callback throws goes through", () =>
    serving(
      [EVENTS, event("build_log", { message: "x" }), event("result", {}), LAST],
      async (socket) => {
        const snapshots = new Snapshots(new Client({ socket }));
        const onBuildLogs = (): void => {
          throw new RangeError("mine");
        };
        await assert.rejects(
          snapshots.create({ name: "n", image: Image.base(), onBuildLogs }),
          RangeError,
        );
      },
    ));

  test("a signal ends the call", () =>
    serving([EVENTS, event("build_log", { message: "x" })], async (socket) => {
      const abort = new AbortController();
      const onBuildLog = (): void => abort.abort(new RangeError("enough"));
      const options = { image: Image.base(), onBuildLog, signal: abort.signal };
      await assert.rejects(create(socket, options), RangeError);
      await assert.rejects(create(socket, options), RangeError);
    }));

  test("either an image or a snapshot", () =>
    assert.rejects(create("/none", { image: Image.base(), snapshot: "x" }), TypeError));
});
