import { setTimeout as sleep } from "node:timers/promises";
import { WaitTimeoutError } from "./errors.js";

/** How long to wait for something. */
export interface WaitOptions {
  /** WaitTimeoutError after so long. */
  timeoutMs?: number;
  /** Stop waiting. */
  signal?: AbortSignal;
}

const FIRST_MS = 20;
const MOST_MS = 1000;

/** Asks again and again, at longer and longer intervals, until there is an answer. */
export async function poll<T>(
  what: string,
  ask: () => Promise<T | undefined>,
  options: WaitOptions = {},
): Promise<T> {
  const deadline = options.timeoutMs === undefined ? Infinity : Date.now() + options.timeoutMs;
  for (let pause = FIRST_MS; ; pause = Math.min(2 * pause, MOST_MS)) {
    options.signal?.throwIfAborted();
    const answer = await ask();
    if (answer !== undefined) return answer;
    const left = deadline - Date.now();
    if (left <= 0) throw new WaitTimeoutError(`${what}: still not at its end`);
    await sleep(Math.min(pause, left), undefined, options.signal ? { signal: options.signal } : {});
  }
}
