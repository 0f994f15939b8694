/** Images described in code. */
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { canonicalize, checkUnicode, type Json } from "./jcs.js";

/** A file, or with `target` a symbolic link, of a directory in a manifest. */
export interface DirFile {
  readonly relativePath: string;
  readonly content?: string;
  readonly mode?: string | number;
  readonly target?: string;
}

/** A directory below the directory that a step adds. */
export type DirEntry = string | { readonly relativePath: string; readonly mode?: string | number };

/** A step of a manifest, as the daemon takes it. */
export type Step =
  | {
      readonly type: "apt_install" | "pip_install";
      readonly args: { readonly packages: readonly string[] };
    }
  | { readonly type: "run"; readonly args: { readonly commands: readonly string[] } }
  | { readonly type: "env"; readonly args: { readonly vars: Readonly<Record<string, string>> } }
  | { readonly type: "workdir"; readonly args: { readonly path: string } }
  | {
      readonly type: "add_file";
      readonly args: {
        readonly path: string;
        readonly content: string;
        readonly encoding: "base64";
        readonly mode?: string | number;
      };
    }
  | {
      readonly type: "add_dir";
      readonly args: {
        readonly path: string;
        readonly files: readonly DirFile[];
        readonly dirs?: readonly DirEntry[];
      };
    };

/** An image as the daemon takes it. */
export interface Manifest {
  readonly base: string;
  readonly steps: readonly Step[];
  readonly builderMemoryMB?: number;
}

function text(what: string, value: unknown): string {
  if (typeof value !== "string") throw new TypeError(`${what}: ${String(value)} is no string`);
  return checkUnicode(value);
}

function strings(what: string, values: readonly string[]): string[] {
  if (!Array.isArray(values)) throw new TypeError(`${what} are an array of strings`);
  return values.map((value) => text(what, value));
}

/** Permission bits as a manifest has them: four octal digits. */
function modeText(mode: number | string): string {
  const valid = typeof mode === "number" ? Number.isInteger(mode) : /^[0-7]+$/.test(mode);
  const value = typeof mode === "number" ? mode : parseInt(mode, 8);
  if (!valid || value < 0 || value > 0o7777) {
    throw new RangeError(`mode ${mode} is not between 0 and 7777 (octal)`);
  }
  return value.toString(8).padStart(4, "0");
}

/** Not part of the package's interface. */
export function base64(data: Uint8Array): string {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("base64");
}

/** Content and mode of a regular file. */
function readRegular(path: string | Buffer): { content: Buffer; mode: string } {
  const fd = fs.openSync(path, "r");
  try {
    const info = fs.fstatSync(fd);
    if (info.isDirectory()) throw new TypeError(`${path} is a directory`);
    if (!info.isFile()) throw new TypeError(`${path} is not a regular file`);
    return { content: fs.readFileSync(fd), mode: modeText(info.mode & 0o7777) };
  } finally {
    fs.closeSync(fd);
  }
}

function utf8(what: string, bytes: Buffer): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new TypeError(`${what} ${JSON.stringify(bytes.toString("latin1"))} is not UTF-8`);
  }
}

function collect(dir: string, below: string, files: DirFile[], dirs: DirEntry[]): void {
  for (const bytes of fs.readdirSync(dir, { encoding: "buffer" })) {
    const name = utf8("the name", bytes);
    const full = `${dir}/${name}`;
    const relativePath = below ? `${below}/${name}` : name;
    const info = fs.lstatSync(full);
    if (info.isSymbolicLink()) {
      const target = utf8(`the target of ${full}`, fs.readlinkSync(full, { encoding: "buffer" }));
      files.push({ relativePath, target });
    } else if (info.isDirectory()) {
      dirs.push({ relativePath, mode: modeText(info.mode & 0o7777) });
      collect(full, relativePath, files, dirs);
    } else if (info.isFile()) {
      const { content, mode } = readRegular(full);
      files.push({ relativePath, content: base64(content), mode });
    } else {
      throw new TypeError(`${full} is no file, directory or symbolic link`);
    }
  }
}

function pathOf(entry: DirFile | DirEntry): Buffer {
  return Buffer.from(typeof entry === "string" ? entry : entry.relativePath);
}

function byPath(a: DirFile | DirEntry, b: DirFile | DirEntry): number {
  return Buffer.compare(pathOf(a), pathOf(b));
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    Object.values(value).forEach(deepFreeze);
  }
  return value;
}

/**
 * What a sandbox's root filesystem is made of: a base and steps.
 *
 * An image is immutable: every method returns a new one and leaves this one as it is, so images
 * can share a beginning, which is then built once.
 *
 *     const image = Image.base()
 *       .aptInstall(["curl", "git"])
 *       .addFile("/workspace/config.json", '{"debug": true}')
 *       .env({ PROJECT: "/workspace" })
 *       .workdir("/workspace");
 *
 * Nothing is checked against the daemon before it is used; a manifest that the daemon cannot
 * accept is an InvalidRequestError that names the step.
 */
export class Image {
  readonly #manifest: Manifest;

  private constructor(manifest: Manifest) {
    this.#manifest = deepFreeze(manifest);
    Object.freeze(this);
  }

  /** Start from the daemon's default template. */
  static base(): Image {
    return new Image({ base: "base", steps: [] });
  }

  /** Start from a snapshot, by its name. */
  static fromSnapshot(name: string): Image {
    return new Image({ base: `snapshot:${text("the name", name)}`, steps: [] });
  }

  /** Start from an OCI image that has been imported into the daemon's store. */
  static fromOci(reference: string): Image {
    return new Image({ base: `oci:${text("the reference", reference)}`, steps: [] });
  }

  /** The image of a manifest that toJSON() or another library made. */
  static fromJSON(manifest: Manifest): Image {
    for (const name of Object.keys(manifest)) {
      if (!["base", "steps", "builderMemoryMB"].includes(name)) {
        throw new TypeError(`unknown in a manifest: ${name}`);
      }
    }
    text("base", manifest.base);
    if (!Array.isArray(manifest.steps)) throw new TypeError("a manifest's steps are an array");
    return new Image(structuredClone(manifest));
  }

  #with(step: Step): Image {
    return new Image({ ...this.#manifest, steps: [...this.#manifest.steps, step] });
  }

  /** Install Debian packages, without what they only recommend. */
  aptInstall(packages: readonly string[]): Image {
    return this.#with({ type: "apt_install", args: { packages: strings("packages", packages) } });
  }

  /** Install Python packages. Each is one argument of pip: "pandas>=2" needs no quotes. */
  pipInstall(packages: readonly string[]): Image {
    return this.#with({ type: "pip_install", args: { packages: strings("packages", packages) } });
  }

  /**
   * Run commands in one /bin/sh, in the environment and working directory of the steps before:
   * `cd` and `export` hold for the commands after them. The first that fails ends the build.
   */
  runCommands(...commands: string[]): Image {
    return this.#with({ type: "run", args: { commands: strings("commands", commands) } });
  }

  /** Set environment variables, for later steps and for every sandbox of the image. */
  env(variables: Readonly<Record<string, string>>): Image {
    const entries = Object.entries(variables).map(
      ([name, value]) => [checkUnicode(name), text(`variable ${name}`, value)] as const,
    );
    return this.#with({ type: "env", args: { vars: Object.fromEntries(entries) } });
  }

  /** Make a directory, the default one of later steps and of sandboxes. */
  workdir(path: string): Image {
    return this.#with({ type: "workdir", args: { path: text("the path", path) } });
  }

  /** Write a file, byte for byte (a string as UTF-8). mode: 0o755 or "0755". */
  addFile(path: string, content: string | Uint8Array, mode?: number | string): Image {
    const data = typeof content === "string" ? Buffer.from(text("the content", content)) : content;
    const args = {
      path: text("the path", path),
      content: base64(data),
      encoding: "base64" as const,
      ...(mode === undefined ? {} : { mode: modeText(mode) }),
    };
    return this.#with({ type: "add_file", args });
  }

  /** Write a copy of a file of this machine, with its mode. It is read now. */
  addLocalFile(local: string, path: string): Image {
    const { content, mode } = readRegular(local);
    return this.addFile(path, content, mode);
  }

  /**
   * Write a copy of a directory of this machine: files, symbolic links, directories (empty ones
   * too) and their modes. It is read now.
   */
  addLocalDir(local: string, path: string): Image {
    const files: DirFile[] = [];
    const dirs: DirEntry[] = [];
    collect(local, "", files, dirs);
    const args = {
      path: text("the path", path),
      files: files.sort(byPath),
      ...(dirs.length ? { dirs: dirs.sort(byPath) } : {}),
    };
    return this.#with({ type: "add_dir", args });
  }

  /** Give the build this much memory. Changes neither the image nor its key. */
  builderMemory(megabytes: number): Image {
    return new Image({ ...this.#manifest, builderMemoryMB: megabytes });
  }

  /** The manifest, as the daemon takes it; frozen. */
  toJSON(): Manifest {
    return this.#manifest;
  }

  /**
   * SHA-256, in hex, of the base and steps. Equal keys are equal images, in every language; the
   * daemon's `contentHash` is this key.
   */
  cacheKey(): string {
    const { base, steps } = this.#manifest;
    const content = canonicalize({ base, steps } as unknown as Json);
    return createHash("sha256").update(content).digest("hex");
  }
}
