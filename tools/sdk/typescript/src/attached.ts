/**
 * A command that somebody waits for, and that goes on while the daemon is replaced: it is started
 * as an attached one, and its output followed, again from where it broke off, up to its end.
 */
import { performance } from "node:perf_hooks";
import { quote, type Call } from "./client.js";
import { NotFoundError, TransportError } from "./errors.js";
import { toExecResult, type ExecResult, type JsonObject, type Output } from "./types.js";

/** Of each stream of a result: what the daemon keeps of commands that nobody follows, too. */
const OUTPUT_MOST = 16 << 20;
/** A daemon that has lived for so long did not die of a call. */
const LASTING_MS = 60_000;
/** A client that gives up says so, for no longer than this; the command ends soon in any case. */
const KILL_TIMEOUT_MS = 5000;

interface Stream {
  at: number; // so much of it has come
  kept: number;
  pieces: Uint8Array[];
}

function text({ at, kept, pieces }: Stream): string {
  const data = Buffer.concat(pieces);
  if (kept === at || kept === 0) return data.toString();
  const start = data[kept - 1] === 10 ? "" : "\n";
  return `${data.toString()}${start}varve: output cut after ${kept} bytes\n`;
}

/** One such command, while it is followed. */
export class Attached {
  readonly #path: string;
  readonly #keep: boolean;
  readonly #signal: AbortSignal | undefined;
  readonly #streams: Record<Output["stream"], Stream> = {
    stdout: { at: 0, kept: 0, pieces: [] },
    stderr: { at: 0, kept: 0, pieces: [] },
  };
  #noted = { total: 0, begun: 0 };
  /** Nobody is to end it any more. */
  isOver = false;

  /** keep: its output is to be part of the result. */
  constructor(sandboxId: string, execId: string, keep: boolean, signal?: AbortSignal) {
    this.#path = `/api/sandboxes/${quote(sandboxId)}/exec/${quote(execId)}`;
    this.#keep = keep;
    this.#signal = signal;
  }

  get #total(): number {
    return this.#streams.stdout.at + this.#streams.stderr.at;
  }

  /** The call that tells its output from there on. */
  follow(): Call {
    this.#noted = { total: this.#total, begun: performance.now() };
    const { stdout, stderr } = this.#streams;
    const query = { stdout: String(stdout.at), stderr: String(stderr.at) };
    return { method: "GET", path: `${this.#path}/output`, query, signal: this.#signal };
  }

  kill(): Call {
    return { method: "DELETE", path: this.#path, timeoutMs: KILL_TIMEOUT_MS };
  }

  /** That has come. */
  take({ stream, data }: Output): void {
    const to = this.#streams[stream];
    to.at += data.length;
    const room = OUTPUT_MOST - to.kept;
    if (!this.#keep || room === 0) return;
    const piece = data.subarray(0, room);
    to.kept += piece.length;
    to.pieces.push(piece);
  }

  /** Whether the last call has told something, or lasted: then the next one is no repetition. */
  get hasMoved(): boolean {
    const { total, begun } = this.#noted;
    return this.#total > total || performance.now() - begun > LASTING_MS;
  }

  /** What to throw for a failure to follow it any further. */
  failure(cause: unknown): unknown {
    if (!(cause instanceof NotFoundError)) return cause;
    return new TransportError(`how the command has ended is not known: ${cause.message}`, {
      cause,
    });
  }

  /** At its end, of which the daemon has said this. */
  result(value: JsonObject): ExecResult {
    const { stdout, stderr } = this.#streams;
    const isCut = this.#keep && (stdout.at > stdout.kept || stderr.at > stderr.kept);
    return toExecResult({
      ...value,
      stdout: text(stdout),
      stderr: text(stderr),
      ...(isCut ? { truncated: true } : {}),
    });
  }
}
