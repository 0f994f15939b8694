/** A server of canned bytes, for tests of what goes over the wire. */
import * as fs from "node:fs";
import * as net from "node:net";
import * as os from "node:os";
import * as path from "node:path";

export const SANDBOX = { sandboxID: "sb-1", status: "running", metadata: { a: "b" } };
export const CHUNKED = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
export const EVENTS =
  "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
export const LAST = "0\r\n\r\n";

export function reply(status: number, body: unknown): string {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return `HTTP/1.1 ${status} X\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`;
}

export function chunk(text: string): string {
  return `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`;
}

export function event(name: string, value: unknown): string {
  return chunk(`event: ${name}\ndata: ${JSON.stringify(value)}\n\n`);
}

/** Of a request so far: whether it is whole. */
function isWhole(data: Buffer): boolean {
  const text = data.toString("latin1");
  const end = text.indexOf("\r\n\r\n");
  if (end < 0) return false;
  const head = text.slice(0, end).toLowerCase();
  if (head.includes("transfer-encoding: chunked")) return text.endsWith(LAST);
  const length = /content-length: (\d+)/.exec(head);
  return text.length - end - 4 >= Number(length?.[1] ?? 0);
}

/**
 * Answers each connection with the same bytes, piece by piece (or in turn with those of `turns`), and
 * keeps what it was sent.
 * Without readAll it answers after the request's head. Given to a function, closed at its end.
 */
export async function serving(
  pieces: (string | Uint8Array)[],
  use: (socket: string, requests: Buffer[]) => Promise<void>,
  readAll = true,
  turns: (string | Uint8Array)[][] = [],
): Promise<void> {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), "varve-ts-"));
  const requests: Buffer[] = [];
  const server = net.createServer((connection) => {
    let data = Buffer.alloc(0);
    connection.on("error", () => {}); // the client has heard enough
    connection.on("data", (more) => {
      data = Buffer.concat([data, more]);
      if (readAll ? !isWhole(data) : !data.includes("\r\n\r\n")) return;
      connection.removeAllListeners("data");
      requests.push(data);
      void answer(connection);
    });
  });
  const answer = async (connection: net.Socket): Promise<void> => {
    for (const piece of turns.shift() ?? pieces) {
      await new Promise<void>((done) => connection.write(piece, () => done()));
    }
    connection.end();
  };
  await new Promise<void>((done) => server.listen(`${dir}/s`, done));
  try {
    await use(`${dir}/s`, requests);
  } finally {
    server.close();
    fs.rmSync(dir, { recursive: true });
  }
}
