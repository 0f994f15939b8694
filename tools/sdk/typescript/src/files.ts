/** Files of a sandbox. */
import { isStatus, pageQuery, quote, type Call, type Client, type Content, type Page } from "./client.js";
import { ApiError } from "./errors.js";
import { toFileInfo, type FileInfo, type JsonObject } from "./types.js";

/** Files of a sandbox: `sandbox.files`. Paths are those inside. */
export class Files {
  readonly #client: Client;
  readonly #id: string;

  constructor(client: Client, sandboxId: string) {
    this.#client = client;
    this.#id = sandboxId;
  }

  #call(method: Call["method"], what: string, path: string): Call {
    return { method, path: `/api/sandboxes/${quote(this.#id)}/files${what}`, query: { path } };
  }

  /** A whole text file, which has to be UTF-8. */
  async read(path: string): Promise<string> {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(
      await this.readBytes(path),
    );
  }

  /** A whole file. */
  async readBytes(path: string): Promise<Uint8Array> {
    const pieces: Uint8Array[] = [];
    for await (const data of this.stream(path)) pieces.push(data);
    return Buffer.concat(pieces);
  }

  /** A file of any size, in pieces as they come. */
  async *stream(path: string): AsyncGenerator<Uint8Array> {
    yield* (await this.#client.open(this.#call("GET", "", path))).body;
  }

  /**
   * Write a file whole, from a string, bytes, a stream or an iterable of bytes, which are
   * streamed. Missing directories are made; the file is replaced at once, at the end.
   */
  async write(path: string, content: Content): Promise<void> {
    await this.#client.send({ ...this.#call("PUT", "", path), content });
  }

  /** The entries of a directory, by name: all, or a page of them (after: a name). */
  async list(path = "/", page: Page = {}): Promise<FileInfo[]> {
    const call = this.#call("GET", "/list", path);
    const query = { ...call.query, ...pageQuery(page) };
    return (await this.#client.request<JsonObject[]>({ ...call, query })).map(toFileInfo);
  }

  /** Make a directory and those above it. */
  async makeDir(path: string): Promise<void> {
    await this.#client.send(this.#call("POST", "/mkdir", path));
  }

  /** Remove a file, or a directory with all that is in it. One that is gone already is no error. */
  async remove(path: string): Promise<void> {
    await this.#client.send(this.#call("DELETE", "", path));
  }

  /** Whether there is a file or directory, following symbolic links. The path is absolute. */
  async exists(path: string): Promise<boolean> {
    if (!path.startsWith("/"))
      throw new TypeError(`${JSON.stringify(path)} is not an absolute path`);
    try {
      await (await this.#client.open(this.#call("GET", "", path))).body.return(undefined);
      return true;
    } catch (e) {
      if (isStatus(e, 404)) return false;
      if (!(e instanceof ApiError)) throw e;
    }
    try {
      await this.list(path); // no file to read: a directory, or nothing that can be reached
      return true;
    } catch (e) {
      // 400 where something above it is no directory
      if (isStatus(e, 404) || isStatus(e, 400)) return false;
      throw e;
    }
  }
}
