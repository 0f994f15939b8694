/** Commands of a sandbox. */
import { Attached } from "./attached.js";
import { quote, type Call, type Client } from "./client.js";
import { CommandError, InvalidRequestError, VarveError } from "./errors.js";
import { OUTPUT } from "./events.js";
import { base64 } from "./image.js";
import {
  toExecResult,
  toExecStatus,
  type ExecResult,
  type ExecStatus,
  type JsonObject,
  type Output,
} from "./types.js";
import { poll, type WaitOptions } from "./wait.js";

export interface RunOptions {
  /** Arguments, exactly these. Without them the command is a line for `sh -c`. */
  args?: readonly string[];
  /** Adds to what the image and the sandbox say. */
  env?: Readonly<Record<string, string>>;
  cwd?: string;
  /** Seconds after which it is killed. */
  timeout?: number;
  /** What it reads, at most 1 MiB; nothing without it. */
  stdin?: string | Uint8Array;
  /** Seconds to read on where it leaves processes that hold its output (default 10). */
  linger?: number;
  /** CommandError unless it ends with 0. */
  check?: boolean;
  /** Gets the output as it comes, any amount of it; the result has none then. */
  onOutput?: (output: Output) => void;
  /** Stop waiting; the command ends. */
  signal?: AbortSignal;
}

function stdinOf({ stdin }: RunOptions): JsonObject {
  if (stdin === undefined || typeof stdin === "string") return { stdin };
  return { stdinBase64: base64(stdin) };
}

/**
 * To its end, which its connection brings too; on its own; or for who follows its output, which an
 * older daemon refuses.
 */
type How = "run" | "run-async" | "attached";

function runCall(sandboxId: string, how: How, command: string, options: RunOptions): Call {
  const attached = how === "attached" ? true : undefined;
  const { args, env, cwd, timeout, linger, signal } = options;
  const program = args ? { cmd: command, args } : { cmd: "sh", args: ["-c", command] };
  return {
    method: "POST",
    path: `/api/sandboxes/${quote(sandboxId)}/exec/${attached ? "run-async" : how}`,
    json: { ...program, envs: env, cwd, timeout, linger, attached, ...stdinOf(options) },
    signal,
  };
}

/** A command that runs on its own, from exec.runAsync(). */
export class Process {
  readonly execId: string;
  readonly #exec: Exec;

  constructor(exec: Exec, execId: string) {
    this.#exec = exec;
    this.execId = execId;
  }

  /** How far it is. Does not wait. */
  result(): Promise<ExecStatus> {
    return this.#exec.result(this.execId);
  }

  /** Wait for its end. After WaitTimeoutError it runs on. */
  wait(options: WaitOptions = {}): Promise<ExecResult> {
    const ask = async (): Promise<ExecResult | undefined> => {
      const status = await this.result();
      if (status.running) return undefined;
      if (status.error) throw new VarveError(`the command could not be run: ${status.error}`);
      return status;
    };
    return poll(`the command ${this.execId}`, ask, options);
  }
}

/** Commands of a sandbox: `sandbox.exec`. */
export class Exec {
  readonly #client: Client;
  readonly #id: string;

  constructor(client: Client, sandboxId: string) {
    this.#client = client;
    this.#id = sandboxId;
  }

  /**
   * Run a command and wait for its end. Without `args` it is a line for `sh -c`; with `args` (an
   * empty array will do) it is a program that gets exactly these. The command goes on while the
   * daemon is replaced (not with an older one).
   */
  async run(command: string, options: RunOptions = {}): Promise<ExecResult> {
    const execId = await this.#attach(command, options);
    const result = execId
      ? await this.#attend(execId, options)
      : await this.#runUnattached(command, options);
    if (options.check && result.exitCode !== 0) {
      throw new CommandError(command, result.exitCode, result.stdout, result.stderr);
    }
    return result;
  }

  /** Nothing with an older daemon; what is wrong with the command is then said again. */
  async #attach(command: string, options: RunOptions): Promise<string | undefined> {
    const call = runCall(this.#id, "attached", command, options);
    try {
      return (await this.#client.request<{ execId: string }>(call)).execId;
    } catch (e) {
      if (e instanceof InvalidRequestError) return undefined;
      throw e;
    }
  }

  async #attend(execId: string, { onOutput, signal }: RunOptions): Promise<ExecResult> {
    const command = new Attached(this.#id, execId, !onOutput, signal);
    return command.result(await this.#client.attend(command, onOutput));
  }

  async #runUnattached(command: string, options: RunOptions): Promise<ExecResult> {
    const call = runCall(this.#id, "run", command, options);
    const { onOutput } = options;
    const running = onOutput
      ? this.#client.follow<JsonObject, Output>(call, OUTPUT, onOutput)
      : this.#client.request<JsonObject>(call);
    return toExecResult(await running);
  }

  /** Start a command and return at once. */
  async runAsync(
    command: string,
    options: Omit<RunOptions, "check" | "onOutput"> = {},
  ): Promise<Process> {
    const call = runCall(this.#id, "run-async", command, options);
    const { execId } = await this.#client.request<{ execId: string }>(call);
    return new Process(this, execId);
  }

  /** How far a command is that runAsync() has started, here or elsewhere. */
  async result(execId: string): Promise<ExecStatus> {
    const path = `/api/sandboxes/${quote(this.#id)}/exec/${quote(execId)}/result`;
    return toExecStatus(await this.#client.request<JsonObject>({ method: "GET", path }));
  }
}
