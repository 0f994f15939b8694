/** The connection to a daemon: one request a connection. */
import * as http from "node:http";
import { randomUUID } from "node:crypto";
import * as https from "node:https";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { ApiError, TransportError, UnreachableError, apiError } from "./errors.js";
import type { Attached } from "./attached.js";
import { BUILD, OUTPUT, ResultStream, type Kind } from "./events.js";
import { Retry, RetryPolicy } from "./retry.js";
import type { BuildLog, JsonObject, Output } from "./types.js";

export const DEFAULT_SOCKET = "/run/snapshotd.sock";
const CONNECT_TIMEOUT_MS = 10_000;
/** A stream of events has a comment every 15 s, so a longer silence is a broken connection. */
const EVENTS_TIMEOUT_MS = 90_000;
/** Of calls that only look something up; others take as long as their work. */
const LOOKUP_TIMEOUT_MS = 120_000;

/** Where the daemon is. */
export interface ClientOptions {
  /** A unix socket. */
  socket?: string;
  /** Or a URL: http:, https: or unix:. */
  url?: string;
  /** For a URL. */
  apiKey?: string;
  /**
   * How many seconds a daemon that is being replaced is waited for, from when none answers: 10, or
   * VARVE_RETRY_SECONDS; 0 for not at all. A call that it has not answered is made again, and done
   * once all the same; not one that changes something and was sent to an older daemon, which would
   * do it twice. A command that is waited for goes on without the daemon (one of these that is not
   * older). Where none has ever answered, none is waited for unless this is given.
   */
  retrySeconds?: number;
}

type Pieces = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/** What is sent as a file: strings as UTF-8; streams and iterables in pieces. */
export type Content = string | Uint8Array | Pieces;

export type OnLog = (log: BuildLog) => void;

/** A part of a list: at most `limit` items, behind the one whose id is `after`. */
export interface Page {
  limit?: number;
  after?: string;
}

export function pageQuery(page: Page): Record<string, string> {
  return {
    ...(page.limit === undefined ? {} : { limit: String(page.limit) }),
    ...(page.after === undefined ? {} : { after: page.after }),
  };
}

/** One call of the API. */
export interface Call {
  method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  path: string;
  query?: Record<string, string>;
  json?: unknown;
  content?: Content;
  events?: boolean;
  /** The longest silence, where there is one. */
  timeoutMs?: number;
  signal?: AbortSignal | undefined;
  /** Of one that changes something; the same where it is made again. */
  key?: string;
}

/** One segment of a path. */
export function quote(part: string): string {
  return encodeURIComponent(part);
}

interface Target {
  options: http.RequestOptions;
  prefix: string;
  name: string;
  tls: boolean;
}

function socketTarget(socketPath: string): Target {
  return { options: { socketPath, host: "localhost" }, prefix: "", name: socketPath, tls: false };
}

function urlTarget(text: string): Target {
  const url = new URL(text);
  if (url.protocol === "unix:") return socketTarget(url.pathname);
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    throw new TypeError(`${text} is no http:, https: or unix: URL`);
  }
  const tls = url.protocol === "https:";
  const prefix = url.pathname.replace(/\/+$/, "").replace(/\/api$/, "");
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const port = Number(url.port) || (tls ? 443 : 80);
  return { options: { host, port }, prefix, name: url.origin, tls };
}

function resolve(given: ClientOptions): Target {
  const env = process.env;
  if (given.socket && given.url) throw new TypeError("give either a socket or a URL");
  if (given.socket) return socketTarget(given.socket);
  const url = given.url || env["VARVE_API_URL"];
  if (url) return urlTarget(url);
  return socketTarget(env["VARVE_SOCKET"] || env["SNAPSHOTD_SOCKET"] || DEFAULT_SOCKET);
}

function broken(where: string, cause: unknown): TransportError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new TransportError(`the call to ${where} broke off: ${why}`, { cause });
}

/** The same, and what reading it throws is told first. */
async function* watched(
  content: Pieces,
  onError: (e: unknown) => void,
): AsyncGenerator<Uint8Array> {
  try {
    yield* content;
  } catch (e) {
    onError(e);
    throw e;
  }
}

/**
 * The connection to a daemon. Without options: VARVE_API_URL with VARVE_API_KEY, else the unix
 * socket that VARVE_SOCKET or SNAPSHOTD_SOCKET names, else /run/snapshotd.sock.
 */
export class Client {
  readonly #target: Target;
  readonly #apiKey: string;
  readonly #retry: RetryPolicy;

  constructor(options: ClientOptions = {}) {
    this.#retry = new RetryPolicy(options.retrySeconds);
    this.#target = resolve(options);
    this.#apiKey = options.apiKey ?? process.env["VARVE_API_KEY"] ?? "";
  }

  /** The socket's path or the URL. */
  get address(): string {
    return this.#target.name;
  }

  #request(call: Call): http.ClientRequest {
    const { options, prefix, tls } = this.#target;
    const query = Object.entries(call.query ?? {})
      .map(([name, value]) => `${quote(name)}=${quote(value)}`)
      .join("&");
    return (tls ? https : http).request({
      ...options,
      method: call.method,
      path: prefix + call.path + (query ? `?${query}` : ""),
      agent: false,
      headers: {
        Accept: call.events ? "text/event-stream" : "*/*",
        ...(this.#apiKey ? { "X-API-Key": this.#apiKey } : {}),
        ...(call.key ? { "Idempotency-Key": call.key } : {}),
        ...(call.json === undefined ? {} : { "Content-Type": "application/json" }),
        ...(call.content === undefined ? {} : { "Content-Type": "application/octet-stream" }),
      },
      ...(call.signal ? { signal: call.signal } : {}),
    });
  }

  /** Send a call and return the reply, whose body is still to be read. */
  #begin(call: Call): Promise<http.IncomingMessage> {
    return new Promise((done, fail) => {
      const request = this.#request(call);
      let connected = false;
      const failOnce = (e: unknown): void => {
        fail(e);
        request.destroy();
      };
      const timer = setTimeout(
        () => request.destroy(new Error(`no connection in ${CONNECT_TIMEOUT_MS} ms`)),
        CONNECT_TIMEOUT_MS,
      );
      request.on("socket", (socket) => {
        socket.once("connect", () => {
          connected = true;
          clearTimeout(timer);
          if (call.timeoutMs) socket.setTimeout(call.timeoutMs);
        });
      });
      request.on("timeout", () => request.destroy(new Error(`silent for ${call.timeoutMs} ms`)));
      request.on("close", () => clearTimeout(timer));
      request.on("response", done);
      request.on("error", (e: Error) => {
        if (call.signal?.aborted) fail(call.signal.reason);
        else if (connected) fail(broken(this.address, e));
        else
          fail(
            new UnreachableError(`cannot reach the daemon at ${this.address}: ${e.message}`, {
              cause: e,
            }),
          );
      });
      this.#sendBody(request, call, failOnce);
    });
  }

  #sendBody(request: http.ClientRequest, call: Call, onError: (e: unknown) => void): void {
    const body = call.json === undefined ? call.content : JSON.stringify(call.json);
    if (body === undefined) {
      if (call.method !== "GET") request.setHeader("Content-Length", 0);
      request.end();
    } else if (typeof body === "string" || body instanceof Uint8Array) {
      const data = typeof body === "string" ? Buffer.from(body) : body;
      request.setHeader("Content-Length", data.byteLength);
      request.end(data);
    } else {
      const source = Readable.from(watched(body, onError), { objectMode: false });
      // What fails in the request is its error event.
      pipeline(source, request).catch(() => {});
    }
  }

  /** Send a call and return the reply's type and body. A failing status is an ApiError. */
  async open(given: Call): Promise<Opened> {
    const call = withKey(given);
    const retry = new Retry(this.#retry, call.method);
    for (;;) {
      try {
        if (this.#retry.asks(call.key)) await this.#askForKeys(call.signal);
        return await this.#open(call);
      } catch (e) {
        if (!isAgain(call)) throw e;
        await retry.next(e, call.signal);
      }
    }
  }

  async #askForKeys(signal: AbortSignal | undefined): Promise<void> {
    const timeoutMs = CONNECT_TIMEOUT_MS;
    try {
      await collect((await this.#open({ method: "GET", path: "/healthz", timeoutMs, signal })).body);
    } catch (e) {
      if (!(e instanceof ApiError || e instanceof TransportError)) throw e;
    }
  }

  async #open(call: Call): Promise<Opened> {
    const reply = await this.#begin(call);
    this.#retry.noteReply(reply.headers["idempotency-keys"]);
    const body = this.#pieces(reply, call.signal);
    const status = reply.statusCode ?? 0;
    if (status < 200 || status > 299) {
      const text = (await collect(body)).toString();
      const { "retry-after": after, "idempotency-pending": pending } = reply.headers;
      throw apiError(status, text, after, pending);
    }
    return { contentType: reply.headers["content-type"] ?? "", body };
  }

  async *#pieces(reply: http.IncomingMessage, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    try {
      for await (const data of reply) yield data as Buffer;
    } catch (e) {
      signal?.throwIfAborted();
      throw broken(this.address, e);
    } finally {
      reply.destroy();
    }
    if (!reply.complete) throw broken(this.address, "the reply is not whole");
  }

  /** Send a call whose reply has nothing to say. */
  async send(call: Call): Promise<void> {
    await this.#whole(call);
  }

  /** Send a call and return its reply, whole. */
  async #whole(given: Call): Promise<Buffer> {
    const call = withKey(given);
    const retry = new Retry(this.#retry, call.method);
    for (;;) {
      const { body } = await this.open(call);
      try {
        return await collect(body);
      } catch (e) {
        if (!isAgain(call)) throw e;
        await retry.next(e, call.signal);
      }
    }
  }

  /** Send a call and return its JSON. */
  async request<T = unknown>(call: Call): Promise<T> {
    const timeoutMs = call.method === "GET" ? LOOKUP_TIMEOUT_MS : 0;
    return decode(await this.#whole({ timeoutMs, ...call })) as T;
  }

  /**
   * Send a call whose reply may be a stream of events and return its result. What tell throws
   * ends it (a build goes on).
   */
  async follow<R, T>(call: Call, kind: Kind<T>, tell?: (told: T) => void): Promise<R> {
    const events = this.#events(call, kind);
    try {
      for (;;) {
        const { done, value } = await events.next();
        if (done) return value as R;
        tell?.(value);
      }
    } finally {
      await events.return(undefined);
    }
  }

  /** What is told, each once though the daemon be replaced meanwhile; returns the result. */
  async *#events<T>(given: Call, kind: Kind<T>): AsyncGenerator<T, unknown> {
    const call = withKey(withEvents(given));
    const retry = new Retry(this.#retry, call.method);
    let known = 0; // they come again, from the first
    for (;;) {
      const { contentType, body } = await this.open(call);
      const stream = new ResultStream(kind);
      let seen = 0;
      const pieces = body[Symbol.asyncIterator]();
      try {
        if (!contentType.startsWith("text/event-stream")) return decode(await collect(body));
        for (;;) {
          const { done, value } = await pieces.next();
          if (done) return stream.result();
          for (const told of stream.feed(value)) {
            if (++seen <= known) continue;
            known = seen;
            yield told;
          }
        }
      } catch (e) {
        if (known && !kind.again) throw e;
        await retry.next(e, call.signal);
      } finally {
        await pieces.return?.(undefined);
      }
    }
  }

  /**
   * Follow a command and return what is said of its end. What tell throws ends it, as does whatever
   * else ends the wait.
   */
  async attend(command: Attached, tell?: (told: Output) => void): Promise<JsonObject> {
    const outputs = this.#outputs(command);
    try {
      for (;;) {
        const { done, value } = await outputs.next();
        if (done) return value;
        tell?.(value);
      }
    } finally {
      await outputs.return(undefined as never);
      if (!command.isOver) await this.#kill(command);
    }
  }

  async *#outputs(command: Attached): AsyncGenerator<Output, JsonObject> {
    let retry = new Retry(this.#retry, "GET");
    for (;;) {
      const call = withEvents(command.follow());
      const stream = new ResultStream(OUTPUT);
      let pieces: AsyncIterator<Uint8Array> | undefined;
      try {
        pieces = (await this.open(call)).body[Symbol.asyncIterator]();
        for (;;) {
          const { done, value } = await pieces.next();
          if (done) {
            const result = stream.result() as JsonObject;
            command.isOver = true;
            return result;
          }
          for (const told of stream.feed(value)) {
            command.take(told);
            yield told;
          }
        }
      } catch (e) {
        const isLost = e instanceof ApiError || e instanceof TransportError;
        if (!pieces) {
          command.isOver = isLost;
          throw command.failure(e); // that has been tried again already
        }
        if (command.hasMoved) retry = new Retry(this.#retry, "GET");
        try {
          await retry.next(e, call.signal);
        } catch (failure) {
          command.isOver = isLost && failure === e; // else somebody has ended the wait
          throw failure;
        }
      } finally {
        await pieces?.return?.(undefined);
      }
    }
  }

  async #kill(command: Attached): Promise<void> {
    try {
      await collect((await this.#open(command.kill())).body);
    } catch (e) {
      if (!(e instanceof ApiError || e instanceof TransportError)) throw e;
    }
  }

  /** The log events of a call's reply. */
  async *logs(call: Call): AsyncGenerator<BuildLog> {
    yield* this.#events(call, BUILD);
  }
}

interface Opened {
  contentType: string;
  body: AsyncGenerator<Uint8Array>;
}

/** What looks something up and what writes a file may be done twice; all else needs a key for that. */
function withKey(call: Call): Call {
  if (call.key || call.method === "GET" || call.method === "PUT") return call;
  return { ...call, key: randomUUID() };
}

/** Whether it can be sent again. */
function isAgain(call: Call): boolean {
  const { content } = call;
  return content === undefined || typeof content === "string" || content instanceof Uint8Array;
}

function withEvents(call: Call): Call {
  return { ...call, events: true, timeoutMs: EVENTS_TIMEOUT_MS };
}

async function collect(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const data of body) pieces.push(data);
  return Buffer.concat(pieces);
}

function decode(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString());
  } catch (cause) {
    throw new TransportError(`the reply is not JSON: ${body.toString().slice(0, 100)}`, { cause });
  }
}

/** Whether it says that the thing is not there. */
export function isStatus(e: unknown, status: number): boolean {
  return e instanceof ApiError && e.status === status;
}
