/** When a call is made again that has met a daemon which is being replaced. */
import { setTimeout as sleep } from "node:timers/promises";
import { ApiError, TransportError, UnreachableError } from "./errors.js";

const DEFAULT_SECONDS = 10;
const PAUSE_FIRST_MS = 20;
const PAUSE_MOST_MS = 500;
/** An answer that is begun and breaks off this often is what the daemons die of. */
const BREAKS_MOST = 8;
/** A 503 that says to come back later than this is no daemon that is being replaced. */
const RETRY_AFTER_MOST = 2;

/** What a client is told to do, and whether a daemon has ever answered it. */
export class RetryPolicy {
  readonly seconds: number;
  readonly always: boolean;
  reached = false;

  constructor(seconds?: number) {
    const text = process.env["VARVE_RETRY_SECONDS"];
    const given = seconds ?? (text ? Number(text) : undefined);
    this.always = given !== undefined;
    this.seconds = given ?? DEFAULT_SECONDS;
  }
}

/** One call while it is made. */
export class Retry {
  readonly #policy: RetryPolicy;
  #end: number | undefined;
  #pause = PAUSE_FIRST_MS;
  #breaks = 0;

  constructor(policy: RetryPolicy) {
    this.#policy = policy;
  }

  #may(failure: unknown): boolean {
    if (failure instanceof ApiError) {
      return failure.status === 503 && (failure.retryAfter ?? Infinity) <= RETRY_AFTER_MOST;
    }
    if (failure instanceof UnreachableError) return this.#policy.always || this.#policy.reached;
    return failure instanceof TransportError;
  }

  /**
   * Waits before the call is made again; throws the failure where it is not. answered: it broke off
   * in its answer.
   */
  async next(failure: unknown, answered = false, signal?: AbortSignal): Promise<void> {
    const now = Date.now();
    if (answered) {
      this.#breaks++;
      this.#end = undefined;
    }
    if (!this.#may(failure) || this.#breaks > BREAKS_MOST) throw failure;
    if (this.#end === undefined) {
      this.#end = now + this.#policy.seconds * 1000;
      this.#pause = PAUSE_FIRST_MS;
    }
    if (now >= this.#end) throw failure;
    await sleep(Math.min(this.#pause, this.#end - now), undefined, signal ? { signal } : {});
    this.#pause = Math.min(2 * this.#pause, PAUSE_MOST_MS);
  }
}
