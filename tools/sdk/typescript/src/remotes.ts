/** Remotes: buckets that snapshots are shared in. */
import { Client, quote, type Call } from "./client.js";
import {
  toRemoteCheck,
  toRemoteCollection,
  toRemoteInfo,
  toRemoteSnapshot,
  toRemoteVerification,
  type JsonObject,
  type RemoteCheck,
  type RemoteCollection,
  type RemoteInfo,
  type RemoteSnapshot,
  type RemoteVerification,
} from "./types.js";

export interface RemoteOptions {
  /** Of the S3 service, where it is not Amazon's. */
  endpoint?: string;
  region?: string;
  /** Nothing is ever written there. */
  readOnly?: boolean;
  /** A new bucket is one of which nothing is ever deleted. */
  permanent?: boolean;
  /** Address HOST/BUCKET, not BUCKET.HOST. */
  pathStyle?: boolean;
  /** An HTTP cache that reads go through. */
  proxy?: string;
  /** Certificates to check the service's with: a file of the daemon's host. */
  caFile?: string;
  /** "env", "file:PATH", "process:COMMAND" or "metadata". */
  credentials?: string;
  /** How long a request may take, with all its attempts: 300 if absent. */
  timeoutSeconds?: number;
  /** The bucket is encrypted, with the key in this file of the daemon's host. */
  keyFile?: string;
  /** The same, with the key that this command prints. */
  keyCommand?: string;
  /** The name of a remote, which is permanent: its packs are borrowed. */
  alternate?: string;
}

function remotePath(name: string, rest = ""): string {
  return `/api/remotes/${quote(name)}${rest}`;
}

/**
 * Buckets that snapshots are shared in, by name. "REMOTE:NAME" stands for a snapshot in one
 * wherever a snapshot is named.
 */
export class Remotes {
  readonly #client: Client;

  constructor(client: Client = new Client()) {
    this.#client = client;
  }

  /** Make a bucket known: s3://BUCKET[/PREFIX], or file:///DIR of the daemon's host. */
  async add(name: string, url: string, options: RemoteOptions = {}): Promise<RemoteInfo> {
    const json = { name, url, ...options };
    const call: Call = { method: "POST", path: "/api/remotes", json };
    return toRemoteInfo(await this.#client.request<JsonObject>(call));
  }

  async list(): Promise<RemoteInfo[]> {
    const call: Call = { method: "GET", path: "/api/remotes" };
    return (await this.#client.request<JsonObject[]>(call)).map(toRemoteInfo);
  }

  /** Forget a remote. Nothing in the bucket changes. */
  async remove(name: string): Promise<void> {
    await this.#client.send({ method: "DELETE", path: remotePath(name) });
  }

  /** Let another key open an encrypted bucket; keepOld: beside those that do. */
  async rekey(
    name: string,
    options: { keyFile?: string; keyCommand?: string; keepOld?: boolean },
  ): Promise<RemoteInfo> {
    const call: Call = { method: "POST", path: remotePath(name, "/rekey"), json: { ...options } };
    return toRemoteInfo(await this.#client.request<JsonObject>(call));
  }

  /** Try whether the bucket does all that is needed of it. */
  async check(name: string): Promise<RemoteCheck> {
    const call: Call = { method: "POST", path: remotePath(name, "/check") };
    return toRemoteCheck(await this.#client.request<JsonObject>(call));
  }

  /** Delete what no snapshot of the bucket needs. Waits for pushes that are under way. */
  async gc(
    name: string,
    options: { dryRun?: boolean; graceSeconds?: number } = {},
  ): Promise<RemoteCollection> {
    const call: Call = { method: "POST", path: remotePath(name, "/gc"), json: { ...options } };
    return toRemoteCollection(await this.#client.request<JsonObject>(call));
  }

  /** Check that all that the bucket's snapshots need is there; deep: read all of its bytes. */
  async verify(name: string, options: { deep?: boolean } = {}): Promise<RemoteVerification> {
    const call: Call = { method: "POST", path: remotePath(name, "/verify"), json: { ...options } };
    return toRemoteVerification(await this.#client.request<JsonObject>(call));
  }

  /** What the bucket has, by name. */
  async snapshots(name: string): Promise<RemoteSnapshot[]> {
    const call: Call = { method: "GET", path: remotePath(name, "/snapshots") };
    return (await this.#client.request<JsonObject[]>(call)).map(toRemoteSnapshot);
  }

  /**
   * Take a name away in the bucket, or delete a snapshot by its id there. Whether it was deleted:
   * it is when its last name goes.
   */
  async delete(name: string, snapshot: string): Promise<boolean> {
    const path = remotePath(name, `/snapshots/${quote(snapshot)}`);
    const reply = await this.#client.request<JsonObject>({ method: "DELETE", path });
    return reply["deleted"] === true;
  }
}
