/** Sandboxes: programs and files in a root filesystem of their own. */
import { Client, isStatus, pageQuery, quote, type Call, type OnLog, type Page } from "./client.js";
import { NotFoundError, VarveError } from "./errors.js";
import { BUILD } from "./events.js";
import { Exec } from "./exec.js";
import { Files } from "./files.js";
import type { Image } from "./image.js";
import {
  toCheckpointInfo,
  toPatchInfo,
  toSandboxInfo,
  type BuildLog,
  type CheckpointInfo,
  type JsonObject,
  type PatchInfo,
  type SandboxInfo,
} from "./types.js";
import { poll, type WaitOptions } from "./wait.js";

/** Where a static call goes: a client of one's own, or the default one. */
export interface Via {
  client?: Client;
  /** Give up waiting for the answer. */
  signal?: AbortSignal;
}

export interface SandboxSettings extends Via {
  /** Seconds without a call after which it is stopped until the next call; 0 for never. */
  timeout?: number;
  /** Environment variables of every command, over those of the image. */
  envs?: Readonly<Record<string, string>>;
  metadata?: Readonly<Record<string, string>>;
  memoryMB?: number;
  cpuCount?: number;
  /** Limits what it may write. */
  diskMB?: number;
}

export interface SandboxOptions extends SandboxSettings {
  /** What to make it of; built first where it is not cached. */
  image?: Image;
  /** Or the name of a snapshot. */
  snapshot?: string;
  /** Gets each line of the build's log as it comes. */
  onBuildLog?: OnLog;
  /** Build the image even where it is cached. */
  force?: boolean;
}

/** How many checkpoints of a sandbox to keep: a number, or as the API has it. */
export type Retention = number | { mode: "none" } | { mode: "delete_oldest"; maxCount?: number };

export interface CheckpointOptions extends WaitOptions {
  retention?: Retention;
  /** Wait until it is ready (the default); its content is of now in any case. */
  wait?: boolean;
}

function settings(options: SandboxSettings): JsonObject {
  const { timeout, envs, metadata, memoryMB, cpuCount, diskMB } = options;
  return { timeout, envs, metadata, memoryMB, cpuCount, diskMB };
}

function sandboxPath(id: string, ...rest: string[]): string {
  return ["/api/sandboxes", quote(id), ...rest].join("/");
}

function patchesPath(checkpointId: string, ...rest: string[]): string {
  return ["/api/sandboxes/checkpoints", quote(checkpointId), "patches", ...rest].join("/");
}

/** A running sandbox. */
export class Sandbox {
  readonly id: string;
  readonly sandboxId: string;
  readonly exec: Exec;
  readonly files: Files;
  #info: SandboxInfo;
  readonly #client: Client;

  private constructor(client: Client, value: JsonObject) {
    this.#client = client;
    this.#info = toSandboxInfo(value);
    this.id = this.sandboxId = this.#info.sandboxId;
    this.exec = new Exec(client, this.id);
    this.files = new Files(client, this.id);
  }

  /**
   * Make a sandbox of an image, of a snapshot or of the default template. BuildError: the image
   * cannot be built.
   */
  static async create(options: SandboxOptions = {}): Promise<Sandbox> {
    const { client = new Client(), image, snapshot, onBuildLog, force, signal } = options;
    if (image && snapshot !== undefined) throw new TypeError("give either an image or a snapshot");
    const call: Call = {
      method: "POST",
      path: "/api/sandboxes",
      query: force ? { force: "true" } : {},
      json: { templateID: "base", ...settings(options), image, snapshot },
      signal,
    };
    const made = image
      ? client.follow<JsonObject, BuildLog>(call, BUILD, onBuildLog)
      : client.request<JsonObject>(call);
    return new Sandbox(client, await made);
  }

  /** Make a new sandbox that starts as a checkpoint (a fork); its patches are run in it. */
  static async createFromCheckpoint(
    checkpointId: string,
    options: SandboxSettings = {},
  ): Promise<Sandbox> {
    const { client = new Client(), signal } = options;
    const path = `/api/sandboxes/from-checkpoint/${quote(checkpointId)}`;
    const call: Call = { method: "POST", path, json: settings(options), signal };
    return new Sandbox(client, await client.request<JsonObject>(call));
  }

  /** A sandbox that exists. */
  static async connect(sandboxId: string, via: Via = {}): Promise<Sandbox> {
    const { client = new Client(), signal } = via;
    const call: Call = { method: "GET", path: sandboxPath(sandboxId), signal };
    return new Sandbox(client, await client.request<JsonObject>(call));
  }

  /** The sandboxes of the daemon, newest first: all, or a page of them. */
  static async list(via: Via & Page = {}): Promise<SandboxInfo[]> {
    const { client = new Client(), signal } = via;
    const call: Call = { method: "GET", path: "/api/sandboxes", query: pageQuery(via), signal };
    return (await client.request<JsonObject[]>(call)).map(toSandboxInfo);
  }

  /** As last heard of. */
  get info(): SandboxInfo {
    return this.#info;
  }

  /** As last heard of; isRunning() asks. */
  get status(): string {
    return this.#info.status;
  }

  #send(method: Call["method"], rest: string[], json?: unknown): Promise<void> {
    return this.#client.send({ method, path: sandboxPath(this.id, ...rest), json });
  }

  /** Whether it exists and runs, right now. */
  async isRunning(): Promise<boolean> {
    try {
      const call: Call = { method: "GET", path: sandboxPath(this.id) };
      this.#info = toSandboxInfo(await this.#client.request<JsonObject>(call));
      return this.#info.status === "running";
    } catch (e) {
      if (isStatus(e, 404)) return false;
      throw e;
    }
  }

  /** Stop it after this many seconds without a call; 0 for never. */
  async setTimeout(seconds: number): Promise<void> {
    await this.#send("POST", ["timeout"], { timeout: seconds });
  }

  /** End it. What it has written is gone, except for its checkpoints. */
  async kill(): Promise<void> {
    await this.#send("DELETE", []);
  }

  /**
   * Keep the filesystem as it is now, under a name (ConflictError where it is taken). The sandbox
   * runs on meanwhile.
   */
  async createCheckpoint(name: string, options: CheckpointOptions = {}): Promise<CheckpointInfo> {
    const { retention, wait = true } = options;
    const retentionPolicy =
      typeof retention === "number" ? { mode: "delete_oldest", maxCount: retention } : retention;
    const value = await this.#client.request<JsonObject>({
      method: "POST",
      path: sandboxPath(this.id, "checkpoints"),
      json: { name, retentionPolicy },
    });
    const checkpoint = toCheckpointInfo(value);
    return wait ? this.waitForCheckpoint(checkpoint.id, options) : checkpoint;
  }

  /** Wait until a checkpoint is ready. VarveError where it fails. */
  waitForCheckpoint(checkpointId: string, options: WaitOptions = {}): Promise<CheckpointInfo> {
    const ask = async (): Promise<CheckpointInfo | undefined> => {
      const found = (await this.listCheckpoints()).find((c) => c.id === checkpointId);
      if (!found) throw new NotFoundError(404, `there is no checkpoint ${checkpointId}`);
      if (found.status === "failed") {
        throw new VarveError(`checkpoint ${found.name} has failed: ${found.error}`);
      }
      return found.status === "ready" ? found : undefined;
    };
    return poll(`checkpoint ${checkpointId}`, ask, options);
  }

  /** The checkpoints of this sandbox, oldest first: all, or a page of them. */
  async listCheckpoints(page: Page = {}): Promise<CheckpointInfo[]> {
    const path = sandboxPath(this.id, "checkpoints");
    const call: Call = { method: "GET", path, query: pageQuery(page) };
    return (await this.#client.request<JsonObject[]>(call)).map(toCheckpointInfo);
  }

  /** Put the filesystem back. Processes of the sandbox end. */
  async restoreCheckpoint(checkpointId: string): Promise<void> {
    await this.#send("POST", ["checkpoints", quote(checkpointId), "restore"]);
  }

  async deleteCheckpoint(checkpointId: string): Promise<void> {
    await this.#send("DELETE", ["checkpoints", quote(checkpointId)]);
  }

  /** Add a script that runs in every sandbox made from a checkpoint, after those before. */
  static async createCheckpointPatch(
    checkpointId: string,
    patch: { script: string; description?: string },
    via: Via = {},
  ): Promise<PatchInfo> {
    const { client = new Client(), signal } = via;
    const json = { script: patch.script, description: patch.description ?? "" };
    const call: Call = { method: "POST", path: patchesPath(checkpointId), json, signal };
    const value = await client.request<JsonObject>(call);
    return toPatchInfo((value["patch"] as JsonObject | undefined) ?? value);
  }

  /** The patches of a checkpoint, in the order in which they run. */
  static async listCheckpointPatches(
    checkpointId: string,
    via: Via & Page = {},
  ): Promise<PatchInfo[]> {
    const { client = new Client(), signal } = via;
    const path = patchesPath(checkpointId);
    const call: Call = { method: "GET", path, query: pageQuery(via), signal };
    return (await client.request<JsonObject[]>(call)).map(toPatchInfo);
  }

  static async deleteCheckpointPatch(
    checkpointId: string,
    patchId: string,
    via: Via = {},
  ): Promise<void> {
    const { client = new Client(), signal } = via;
    await client.send({
      method: "DELETE",
      path: patchesPath(checkpointId, quote(patchId)),
      signal,
    });
  }
}
