/**
 * What the tests against a daemon share. They are skipped unless VARVE_LIVE is set; the daemon is
 * that of SNAPSHOTD_SOCKET, its default template is a Debian root, and VARVE_LIVE_URL and
 * VARVE_LIVE_KEY are its address on TCP.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after } from "node:test";
import {
  Builds,
  Image,
  Sandbox,
  Snapshots,
  type BuildLog,
  type SandboxOptions,
} from "../src/index.js";

export const skip = process.env["VARVE_LIVE"] ? false : "needs a daemon (VARVE_LIVE)";
// A part of names and images that no other run of the tests has.
export const RUN = randomBytes(4).toString("hex");
export const GREETING = "gr\u00fc\u00df \"gott\" $HOME `id`\n'2nd line'";
export const NO_ID = "00000000-0000-4000-8000-000000000000";

/** Built by whichever test comes first, then cached. */
export const common = Image.base()
  .env({ RUN, GREETING })
  .workdir("/srv/app")
  .addFile("/srv/app/hello.sh", '#!/bin/sh\necho "hello $1"\n', 0o755)
  .runCommands('printf %s "$GREETING" >greeting');

const made: Sandbox[] = [];
export async function sandbox(options: SandboxOptions = {}): Promise<Sandbox> {
  const box = await Sandbox.create(options);
  made.push(box);
  return box;
}
export async function forked(checkpointId: string, options: SandboxOptions = {}): Promise<Sandbox> {
  const box = await Sandbox.createFromCheckpoint(checkpointId, options);
  made.push(box);
  return box;
}
after(async () => {
  for (const box of made) if (await box.isRunning()) await box.kill();
});

/** Lines of a build with the times of their coming. */
export class Log {
  readonly lines: { log: BuildLog; at: number }[] = [];
  readonly add = (log: BuildLog): void => void this.lines.push({ log, at: Date.now() });
  find(message: string): { log: BuildLog; at: number } {
    const found = this.lines.filter((line) => line.log.message === message);
    assert.equal(found.length, 1, `lines "${message}"`);
    return found[0]!;
  }
}

export const builds = new Builds();
export const snapshots = new Snapshots();
