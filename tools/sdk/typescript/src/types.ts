/**
 * What the daemon tells: plain values. Every one has `raw`, the whole JSON object, which also
 * holds what has no member of its own. Times are ISO 8601 in UTC.
 */

export type JsonObject = Record<string, unknown>;

function str(value: JsonObject, ...names: string[]): string {
  for (const name of names) {
    const member = value[name];
    if (typeof member === "string") return member;
  }
  return "";
}

function num(value: JsonObject, name: string): number {
  const member = value[name];
  return typeof member === "number" ? member : 0;
}

function obj(value: JsonObject, name: string): JsonObject | undefined {
  const member = value[name];
  return typeof member === "object" && member !== null ? (member as JsonObject) : undefined;
}

/** A line of a build's log. */
export interface BuildLog {
  readonly message: string;
  /** The number of the step it belongs to. */
  readonly step: number;
  /** The step's type, such as "run". */
  readonly type: string;
  /** "stdout" or "stderr" of a command; something else or nothing for progress. */
  readonly stream: string;
  readonly raw: JsonObject;
}

export function toBuildLog(raw: JsonObject): BuildLog {
  return {
    message: str(raw, "message"),
    step: num(raw, "step"),
    type: str(raw, "type"),
    stream: str(raw, "stream"),
    raw,
  };
}

/** A piece of a command's output as it came; it may end inside of a character. */
export interface Output {
  readonly stream: "stdout" | "stderr";
  readonly data: Uint8Array;
}

export function toOutput(raw: JsonObject): Output {
  const base64 = raw["dataBase64"];
  const data =
    typeof base64 === "string" ? Buffer.from(base64, "base64") : Buffer.from(str(raw, "data"));
  return { stream: raw["stream"] === "stderr" ? "stderr" : "stdout", data };
}

/** How a command ended. A signal's exit code is 128 and its number. */
export interface ExecResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
  /** More was written than is kept, or processes that it has left may write more. */
  readonly truncated: boolean;
  readonly raw: JsonObject;
}

export function toExecResult(raw: JsonObject): ExecResult {
  return {
    exitCode: num(raw, "exitCode"),
    stdout: str(raw, "stdout"),
    stderr: str(raw, "stderr"),
    truncated: raw["truncated"] === true,
    raw,
  };
}

/** How far a command is that was started with runAsync. `error` says why it could not run. */
export interface ExecStatus extends ExecResult {
  readonly running: boolean;
  readonly error: string;
}

export function toExecStatus(raw: JsonObject): ExecStatus {
  return { ...toExecResult(raw), running: raw["running"] === true, error: str(raw, "error") };
}

/** An entry of a directory. */
export interface FileInfo {
  readonly name: string;
  readonly path: string;
  readonly isDir: boolean;
  readonly size: number;
  readonly raw: JsonObject;
}

export function toFileInfo(raw: JsonObject): FileInfo {
  return {
    name: str(raw, "name"),
    path: str(raw, "path"),
    isDir: raw["isDir"] === true,
    size: num(raw, "size"),
    raw,
  };
}

/** A sandbox, as the daemon describes it. */
export interface SandboxInfo {
  readonly sandboxId: string;
  readonly status: string;
  readonly templateId: string;
  readonly fromCheckpointId: string;
  readonly startedAt: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly raw: JsonObject;
}

export function toSandboxInfo(raw: JsonObject): SandboxInfo {
  return {
    sandboxId: str(raw, "sandboxID", "sandboxId"),
    status: str(raw, "status"),
    templateId: str(raw, "templateID"),
    fromCheckpointId: str(raw, "fromCheckpointId"),
    startedAt: str(raw, "startedAt"),
    metadata: (obj(raw, "metadata") ?? {}) as Record<string, string>,
    raw,
  };
}

/** A checkpoint of a sandbox. `status` is "processing", "ready" or "failed". */
export interface CheckpointInfo {
  readonly id: string;
  readonly sandboxId: string;
  readonly name: string;
  readonly status: string;
  readonly sizeBytes: number;
  readonly createdAt: string;
  readonly error: string;
  readonly raw: JsonObject;
}

export function toCheckpointInfo(raw: JsonObject): CheckpointInfo {
  return {
    id: str(raw, "id"),
    sandboxId: str(raw, "sandboxId"),
    name: str(raw, "name"),
    status: str(raw, "status"),
    sizeBytes: num(raw, "sizeBytes"),
    createdAt: str(raw, "createdAt"),
    error: str(raw, "errorMsg"),
    raw,
  };
}

/** A script that runs in every sandbox that is made from its checkpoint. */
export interface PatchInfo {
  readonly id: string;
  readonly checkpointId: string;
  readonly sequence: number;
  readonly script: string;
  readonly description: string;
  readonly createdAt: string;
  readonly raw: JsonObject;
}

export function toPatchInfo(raw: JsonObject): PatchInfo {
  return {
    id: str(raw, "id"),
    checkpointId: str(raw, "checkpointId"),
    sequence: num(raw, "sequence"),
    script: str(raw, "script"),
    description: str(raw, "description"),
    createdAt: str(raw, "createdAt"),
    raw,
  };
}

/** A snapshot. `status` is "building", "ready" or "failed" (then `error` says why). */
export interface SnapshotInfo {
  readonly id: string;
  readonly name: string;
  readonly status: string;
  /** The cache key of the image that it was made from; empty for other snapshots. */
  readonly contentHash: string;
  readonly checkpointId: string;
  readonly manifest: JsonObject | undefined;
  readonly createdAt: string;
  readonly lastUsedAt: string;
  readonly error: string;
  readonly buildId: string;
  /** The digest of its tree. */
  readonly root: string;
  readonly sizeBytes: number;
  /** Where it is shared: remotes, and its id in each. */
  readonly remotes: { readonly remote: string; readonly id: string }[];
  /** "local", "pushed", or "lazy": parts of it may be in a remote alone. */
  readonly share: string;
  /** Of its files, in the store; only `get` tells, and only where some snapshot is lazy. */
  readonly hereBytes: number | undefined;
  /** The same, in remotes alone. */
  readonly farBytes: number | undefined;
  readonly raw: JsonObject;
}

export function toSnapshotInfo(raw: JsonObject): SnapshotInfo {
  return {
    id: str(raw, "id"),
    name: str(raw, "name"),
    status: str(raw, "status"),
    contentHash: str(raw, "contentHash"),
    checkpointId: str(raw, "checkpointId"),
    manifest: obj(raw, "manifest"),
    createdAt: str(raw, "createdAt"),
    lastUsedAt: str(raw, "lastUsedAt"),
    error: str(raw, "error"),
    buildId: str(raw, "buildID"),
    root: str(raw, "root"),
    sizeBytes: num(raw, "sizeBytes"),
    remotes: ((raw["remotes"] ?? []) as JsonObject[]).map((r) => ({
      remote: str(r, "remote"),
      id: str(r, "id"),
    })),
    share: str(raw, "share"),
    hereBytes: raw["hereBytes"] as number | undefined,
    farBytes: raw["farBytes"] as number | undefined,
    raw,
  };
}

/** What a push did. */
export interface PushResult {
  readonly remote: string;
  /** Of the snapshot in the bucket. */
  readonly id: string;
  readonly name: string;
  /** It was there already. */
  readonly existed: boolean;
  readonly chunks: number;
  readonly bytes: number;
  /** Of what was there; repair has sent their content anew. */
  readonly damagedPacks: number;
  readonly raw: JsonObject;
}

export function toPushResult(raw: JsonObject): PushResult {
  return {
    remote: str(raw, "remote"),
    id: str(raw, "id"),
    name: str(raw, "name"),
    existed: raw["existed"] === true,
    chunks: num(raw, "chunks"),
    bytes: num(raw, "bytes"),
    damagedPacks: num(raw, "damagedPacks"),
    raw,
  };
}

/** A bucket that the daemon knows. */
export interface RemoteInfo {
  readonly name: string;
  readonly url: string;
  readonly readOnly: boolean;
  /** Its id; empty until it has been opened. */
  readonly bucket: string;
  readonly raw: JsonObject;
}

export function toRemoteInfo(raw: JsonObject): RemoteInfo {
  return {
    name: str(raw, "name"),
    url: str(raw, "url"),
    readOnly: raw["readOnly"] === true,
    bucket: str(raw, "bucket"),
    raw,
  };
}

/** What a check found. */
export interface RemoteCheck {
  readonly usable: boolean;
  readonly checks: { readonly name: string; readonly result: string; readonly text: string }[];
  readonly raw: JsonObject;
}

export function toRemoteCheck(raw: JsonObject): RemoteCheck {
  return {
    usable: raw["usable"] === true,
    checks: ((raw["checks"] ?? []) as JsonObject[]).map((c) => ({
      name: str(c, "name"),
      result: str(c, "result"),
      text: str(c, "text"),
    })),
    raw,
  };
}

/** What a collection of a bucket found, and removed. */
export interface RemoteCollection {
  readonly remote: string;
  readonly snapshots: number;
  readonly packs: number;
  readonly bytes: number;
  readonly garbageBytes: number;
  readonly removedBytes: number;
  readonly repackedBytes: number;
  readonly rewrittenBytes: number;
  readonly raw: JsonObject;
}

export function toRemoteCollection(raw: JsonObject): RemoteCollection {
  return {
    remote: str(raw, "remote"),
    snapshots: num(raw, "snapshots"),
    packs: num(raw, "packs"),
    bytes: num(raw, "bytes"),
    garbageBytes: num(raw, "garbageBytes"),
    removedBytes: num(raw, "removedBytes"),
    repackedBytes: num(raw, "repackedBytes"),
    rewrittenBytes: num(raw, "rewrittenBytes"),
    raw,
  };
}

/** What is wrong in a bucket. */
export interface RemoteVerification {
  readonly remote: string;
  readonly snapshots: number;
  readonly damaged: number;
  /** Snapshots that borrow of a bucket that could not be asked. */
  readonly unchecked: number;
  readonly problems: { readonly key: string; readonly problem: string }[];
  readonly raw: JsonObject;
}

export function toRemoteVerification(raw: JsonObject): RemoteVerification {
  return {
    remote: str(raw, "remote"),
    snapshots: num(raw, "snapshots"),
    damaged: num(raw, "damaged"),
    unchecked: num(raw, "unchecked"),
    problems: ((raw["problems"] ?? []) as JsonObject[]).map((p) => ({
      key: str(p, "key"),
      problem: str(p, "problem"),
    })),
    raw,
  };
}

/** A snapshot in a bucket. */
export interface RemoteSnapshot {
  readonly name: string;
  readonly id: string;
  readonly remote: string;
  /** Of the same one in the store; empty where there is none. */
  readonly snapshotId: string;
  readonly createdAt: string;
  readonly sizeBytes: number;
  readonly raw: JsonObject;
}

export function toRemoteSnapshot(raw: JsonObject): RemoteSnapshot {
  return {
    name: str(raw, "name"),
    id: str(raw, "id"),
    remote: str(raw, "remote"),
    snapshotId: str(raw, "snapshotID"),
    createdAt: str(raw, "createdAt"),
    sizeBytes: num(raw, "sizeBytes"),
    raw,
  };
}

/** A cached image. */
export interface ImageInfo {
  readonly contentHash: string;
  readonly snapshotId: string;
  readonly base: string;
  /** Of snapshots that are this image. */
  readonly names: readonly string[];
  readonly sizeBytes: number;
  /** Of its size: what its steps have added. */
  readonly newBytes: number;
  readonly createdAt: string;
  readonly lastUsedAt: string;
  readonly raw: JsonObject;
}

export function toImageInfo(raw: JsonObject): ImageInfo {
  return {
    contentHash: str(raw, "key"),
    snapshotId: str(raw, "snapshotID"),
    base: str(raw, "base"),
    names: Array.isArray(raw["names"]) ? (raw["names"] as string[]) : [],
    sizeBytes: num(raw, "sizeBytes"),
    newBytes: num(raw, "newBytes"),
    createdAt: str(raw, "createdAt"),
    lastUsedAt: str(raw, "lastUsedAt"),
    raw,
  };
}

/** An image that is ready to be used. `buildId` is empty where it was `cached`. */
export interface BuiltImage {
  readonly contentHash: string;
  readonly snapshotId: string;
  readonly buildId: string;
  readonly cached: boolean;
  readonly raw: JsonObject;
}

export function toBuiltImage(raw: JsonObject): BuiltImage {
  return {
    contentHash: str(raw, "key"),
    snapshotId: str(raw, "snapshotID"),
    buildId: str(raw, "buildID"),
    cached: raw["cached"] === true,
    raw,
  };
}

/**
 * A build. `state` is "queued", "preparing", "step" (number `step` of `stepCount`),
 * "checkpointing", or at its end "ready", "failed" (then `error` says why) or "cancelled".
 */
export interface BuildInfo {
  readonly id: string;
  readonly state: string;
  readonly contentHash: string;
  readonly name: string;
  readonly step: number;
  readonly stepCount: number;
  readonly error: string;
  readonly snapshotId: string;
  readonly createdAt: string;
  readonly raw: JsonObject;
}

export function toBuildInfo(raw: JsonObject): BuildInfo {
  return {
    id: str(raw, "id"),
    state: str(raw, "state"),
    contentHash: str(raw, "key"),
    name: str(raw, "name"),
    step: num(raw, "step"),
    stepCount: num(raw, "stepCount"),
    error: str(raw, "error"),
    snapshotId: str(raw, "snapshotID"),
    createdAt: str(raw, "createdAt"),
    raw,
  };
}
