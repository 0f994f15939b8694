/** Named snapshots, cached images and builds. */
import { Client, pageQuery, quote, type Call, type OnLog, type Page } from "./client.js";
import { BuildError } from "./errors.js";
import { BUILD } from "./events.js";
import type { Image } from "./image.js";
import {
  toBuildInfo,
  toBuiltImage,
  toImageInfo,
  toPushResult,
  toSnapshotInfo,
  type BuildInfo,
  type BuildLog,
  type BuiltImage,
  type ImageInfo,
  type JsonObject,
  type PushResult,
  type SnapshotInfo,
} from "./types.js";
import { poll, type WaitOptions } from "./wait.js";

export interface SnapshotOptions {
  name: string;
  image: Image;
  /** Gets each line of the build's log as it comes. */
  onBuildLogs?: OnLog;
  /** Build the image even where it is cached. */
  force?: boolean;
  /** Give up waiting (the build goes on). */
  signal?: AbortSignal;
}

export interface ImageOptions {
  /** Gets each line of the build's log as it comes. */
  onBuildLog?: OnLog;
  /** Build it even where it is cached. */
  force?: boolean;
  /** Give up waiting (the build goes on). */
  signal?: AbortSignal;
}

export interface PushOptions {
  /** In the bucket, instead of its own. */
  name?: string;
  /** false: fail where the name stands for another snapshot there. */
  replace?: boolean;
  /** Check what is there, and send anew what is lost or damaged. */
  repair?: boolean;
  /** Give up: the push ends. */
  signal?: AbortSignal;
}

export interface PullOptions {
  /** Of the local snapshot, instead of the one there. */
  name?: string;
  /** Give up: the pull ends. */
  signal?: AbortSignal;
}

function snapshotPath(name: string): string {
  return `/api/snapshots/${quote(name)}`;
}

/** Snapshots of the daemon's store: permanent, each with a name, shared by all sandboxes. */
export class Snapshots {
  readonly #client: Client;

  constructor(client: Client = new Client()) {
    this.#client = client;
  }

  #create(options: Omit<SnapshotOptions, "onBuildLogs">, query: Record<string, string>): Call {
    const { name, image, force, signal } = options;
    return {
      method: "POST",
      path: "/api/snapshots",
      query: { ...query, ...(force ? { force: "true" } : {}) },
      json: { name, image },
      signal,
    };
  }

  /**
   * Build an image, unless it is cached, and name it. ConflictError: the name is taken;
   * BuildError: it cannot be built.
   */
  async create(options: SnapshotOptions): Promise<SnapshotInfo> {
    const call = this.#create(options, {});
    return toSnapshotInfo(
      await this.#client.follow<JsonObject, BuildLog>(call, BUILD, options.onBuildLogs),
    );
  }

  /** The same, without waiting: waitUntilReady() does that. */
  async start(options: Omit<SnapshotOptions, "onBuildLogs">): Promise<SnapshotInfo> {
    const call = this.#create(options, { async: "1" });
    return toSnapshotInfo(await this.#client.request<JsonObject>(call));
  }

  /** Newest first. everything: those of cached images too, which have no name. */
  async list(options: { everything?: boolean } & Page = {}): Promise<SnapshotInfo[]> {
    const query = { ...(options.everything ? { all: "1" } : {}), ...pageQuery(options) };
    const call: Call = { method: "GET", path: "/api/snapshots", query };
    return (await this.#client.request<JsonObject[]>(call)).map(toSnapshotInfo);
  }

  /** By name or id. */
  async get(name: string): Promise<SnapshotInfo> {
    const call: Call = { method: "GET", path: snapshotPath(name) };
    return toSnapshotInfo(await this.#client.request<JsonObject>(call));
  }

  /** Sandboxes that were made of it are not affected. */
  async delete(name: string): Promise<void> {
    await this.#client.send({ method: "DELETE", path: snapshotPath(name) });
  }

  async #change(name: string, json: JsonObject): Promise<SnapshotInfo> {
    const call: Call = { method: "PATCH", path: snapshotPath(name), json };
    return toSnapshotInfo(await this.#client.request<JsonObject>(call));
  }

  rename(name: string, newName: string): Promise<SnapshotInfo> {
    return this.#change(name, { name: newName });
  }

  /** Protect a snapshot from deletion, or let it expire. */
  pin(name: string, pinned = true, options: { ttlSeconds?: number } = {}): Promise<SnapshotInfo> {
    return this.#change(name, { pinned, ttl: options.ttlSeconds });
  }

  /**
   * Put a snapshot into a remote, under its own name or another one ("": none). ConflictError: the
   * name stands for another one there, and replace is false.
   */
  async push(name: string, remote: string, options: PushOptions = {}): Promise<PushResult> {
    const { name: as, repair } = options;
    const json = { remote, name: as, noReplace: options.replace === false, repair };
    const path = `${snapshotPath(name)}/push`;
    const call: Call = { method: "POST", path, json, signal: options.signal };
    return toPushResult(await this.#client.request<JsonObject>(call));
  }

  /**
   * Take a snapshot from a remote, by its name or id there, under the name that it has there or
   * another one ("": none). ConflictError: another snapshot has the name.
   */
  async pull(remote: string, snapshot: string, options: PullOptions = {}): Promise<SnapshotInfo> {
    const json = { remote, snapshot, name: options.name };
    const call: Call = {
      method: "POST",
      path: "/api/snapshots/pull",
      json,
      signal: options.signal,
    };
    return toSnapshotInfo(await this.#client.request<JsonObject>(call));
  }

  /** Wait for the end of its build. BuildError where it fails. */
  waitUntilReady(name: string, options: WaitOptions = {}): Promise<SnapshotInfo> {
    const ask = async (): Promise<SnapshotInfo | undefined> => {
      const snapshot = await this.get(name);
      if (snapshot.status === "failed") {
        throw new BuildError(`snapshot ${name} has failed: ${snapshot.error}`);
      }
      return snapshot.status === "ready" ? snapshot : undefined;
    };
    return poll(`snapshot ${name}`, ask, options);
  }
}

/** Cached images, named or not. */
export class Images {
  readonly #client: Client;

  constructor(client: Client = new Client()) {
    this.#client = client;
  }

  /**
   * Build an image, unless it is cached, without giving it a name: what is made of it later does
   * not wait. BuildError: it cannot be built.
   */
  async build(image: Image, options: ImageOptions = {}): Promise<BuiltImage> {
    const { onBuildLog, force, signal } = options;
    const call: Call = {
      method: "POST",
      path: "/api/images",
      query: force ? { force: "true" } : {},
      json: { image },
      signal,
    };
    return toBuiltImage(await this.#client.follow<JsonObject, BuildLog>(call, BUILD, onBuildLog));
  }

  /** Forget a cached image. What was made of it is not affected. */
  async delete(contentHash: string): Promise<void> {
    await this.#client.send({ method: "DELETE", path: `/api/images/${quote(contentHash)}` });
  }

  /** By content hash: all, or a page of them. */
  async list(page: Page = {}): Promise<ImageInfo[]> {
    const call: Call = { method: "GET", path: "/api/images", query: pageQuery(page) };
    return (await this.#client.request<JsonObject[]>(call)).map(toImageInfo);
  }
}

/** Builds that run, and those that have ended. */
export class Builds {
  readonly #client: Client;

  constructor(client: Client = new Client()) {
    this.#client = client;
  }

  /** Newest first: all, or a page of them. */
  async list(page: Page = {}): Promise<BuildInfo[]> {
    const call: Call = { method: "GET", path: "/api/builds", query: pageQuery(page) };
    return (await this.#client.request<JsonObject[]>(call)).map(toBuildInfo);
  }

  async get(buildId: string): Promise<BuildInfo> {
    const call: Call = { method: "GET", path: `/api/builds/${quote(buildId)}` };
    return toBuildInfo(await this.#client.request<JsonObject>(call));
  }

  /**
   * A build's log from its start; while it runs, as it comes. BuildError at the end of one that
   * has failed.
   */
  logs(buildId: string, options: { signal?: AbortSignal } = {}): AsyncGenerator<BuildLog> {
    const path = `/api/builds/${quote(buildId)}/logs`;
    return this.#client.logs({ method: "GET", path, signal: options.signal });
  }

  async cancel(buildId: string): Promise<void> {
    await this.#client.send({ method: "DELETE", path: `/api/builds/${quote(buildId)}` });
  }
}
