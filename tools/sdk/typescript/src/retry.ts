/** When a call is made again that has met a daemon which is being replaced. */
import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { ApiError, TransportError, UnreachableError } from "./errors.js";

const DEFAULT_SECONDS = 10;
const SECONDS_MOST = 86_400;
const PAUSE_FIRST_MS = 20;
const PAUSE_MOST_MS = 500;
/** A call that breaks off this often, once sent, is what the daemons die of. */
const BREAKS_MOST = 8;
/** A 503 that says to come back later than this is no daemon that is being replaced. */
const RETRY_AFTER_MOST = 2;
/** A call that is still under way is asked for as long as a daemon knows its key. */
const PENDING_MOST_MS = 3_600_000;

function isGood(seconds: number): boolean {
  return seconds >= 0 && seconds <= SECONDS_MOST; // and no NaN
}

function fromEnvironment(): number | undefined {
  const text = process.env["VARVE_RETRY_SECONDS"]?.trim();
  const seconds = text ? Number(text) : NaN;
  return isGood(seconds) ? seconds : undefined;
}

/** What a client is told to do, and what it knows of its daemon. */
export class RetryPolicy {
  readonly seconds: number;
  readonly always: boolean;
  /** One has answered, or taken a call. */
  reached = false;
  /** Whether the last that answered does a call with a key once: every reply of such a one says so. */
  keys: boolean | undefined;

  constructor(seconds?: number) {
    if (seconds !== undefined && !isGood(seconds)) {
      throw new RangeError(`retrySeconds is 0 to ${SECONDS_MOST}, not ${seconds}`);
    }
    const given = seconds ?? fromEnvironment();
    this.always = given !== undefined;
    this.seconds = given ?? DEFAULT_SECONDS;
  }

  /** A reply has come; keys: its header Idempotency-Keys. */
  noteReply(keys: unknown): void {
    this.reached = true;
    this.keys = keys !== undefined;
  }

  /** Whether the daemon is asked for it before a call. Where nobody answers, the call will tell. */
  asks(key: string | undefined): boolean {
    return key !== undefined && this.seconds > 0 && this.keys === undefined;
  }
}

/** One call while it is made. */
export class Retry {
  readonly #policy: RetryPolicy;
  readonly #method: string;
  #end: number | undefined;
  #pendingEnd: number | undefined;
  #pause = PAUSE_FIRST_MS;
  #breaks = 0;

  constructor(policy: RetryPolicy, method: string) {
    this.#policy = policy;
    this.#method = method;
  }

  #may(failure: unknown): boolean {
    if (failure instanceof ApiError) {
      return failure.status === 503 && (failure.retryAfter ?? Infinity) <= RETRY_AFTER_MOST;
    }
    if (failure instanceof UnreachableError) return this.#policy.always || this.#policy.reached;
    if (!(failure instanceof TransportError)) return false;
    // It was there, and has been sent the call. An older one would do a change twice.
    this.#policy.reached = true;
    return this.#method === "GET" || this.#method === "PUT" || this.#policy.keys === true;
  }

  /** Whether that has come too often. Where a daemon was there, the time begins anew. */
  #givesUp(failure: unknown, now: number): boolean {
    if (failure instanceof UnreachableError) return false;
    if (!(failure instanceof ApiError)) {
      this.#end = undefined;
      return ++this.#breaks > BREAKS_MOST;
    }
    if (!failure.pending) return false;
    this.#end = undefined;
    this.#pendingEnd ??= now + PENDING_MOST_MS;
    return now >= this.#pendingEnd;
  }

  /** Waits before the call is made again; throws the failure where it is not. */
  async next(failure: unknown, signal?: AbortSignal): Promise<void> {
    const now = performance.now();
    if (!this.#may(failure) || this.#policy.seconds === 0 || this.#givesUp(failure, now)) {
      throw failure;
    }
    if (this.#end === undefined) {
      this.#end = now + this.#policy.seconds * 1000;
      this.#pause = PAUSE_FIRST_MS;
    }
    if (now >= this.#end) throw failure;
    const pause = Math.min(this.#pause, this.#end - now);
    try {
      await sleep(pause, undefined, signal ? { signal } : {});
    } catch (e) {
      signal?.throwIfAborted();
      throw e;
    }
    this.#pause = Math.min(2 * this.#pause, PAUSE_MOST_MS);
  }
}
