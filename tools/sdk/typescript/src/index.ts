/**
 * Images in code, sandboxes and snapshots of a Varve daemon.
 *
 *     import { Image, Sandbox } from "varve";
 *
 *     const image = Image.base().aptInstall(["jq"]).env({ MODE: "test" });
 *     const sandbox = await Sandbox.create({ image, onBuildLog: (log) => console.log(log.message) });
 *     console.log((await sandbox.exec.run("jq --version")).stdout);
 *     await sandbox.kill();
 */
export { Client, type ClientOptions, type Content, type OnLog, type Page } from "./client.js";
export {
  ApiError,
  AuthenticationError,
  BuildError,
  CommandError,
  ConflictError,
  InvalidRequestError,
  NoSpaceError,
  NotFoundError,
  TransportError,
  UnreachableError,
  VarveError,
  WaitTimeoutError,
} from "./errors.js";
export { Exec, Process, type RunOptions } from "./exec.js";
export { Files } from "./files.js";
export { Image, type DirEntry, type DirFile, type Manifest, type Step } from "./image.js";
export {
  Sandbox,
  type CheckpointOptions,
  type Retention,
  type SandboxOptions,
  type SandboxSettings,
  type Via,
} from "./sandbox.js";
export { Remotes, type RemoteOptions } from "./remotes.js";
export {
  Builds,
  Images,
  Snapshots,
  type ImageOptions,
  type PullOptions,
  type PushOptions,
  type SnapshotOptions,
} from "./snapshots.js";
export type {
  BuildInfo,
  BuildLog,
  BuiltImage,
  CheckpointInfo,
  ExecResult,
  ExecStatus,
  FileInfo,
  ImageInfo,
  JsonObject,
  Output,
  PatchInfo,
  PushResult,
  RemoteCheck,
  RemoteCollection,
  RemoteInfo,
  RemoteSnapshot,
  RemoteVerification,
  SandboxInfo,
  SnapshotInfo,
} from "./types.js";
export type { WaitOptions } from "./wait.js";
