/** Server-sent events (the HTML standard's event streams), and what the daemon says with them. */
import { ApiError, BuildError, TransportError } from "./errors.js";
import { toBuildLog, toOutput, type BuildLog, type JsonObject, type Output } from "./types.js";

/** One event: its name ("message" where none is given) and its data. */
export interface ServerEvent {
  readonly name: string;
  readonly data: string;
}

/**
 * Turns bytes, cut anywhere, into events. Lines end with LF, CR or CRLF; data of several lines is
 * joined with LF; comments, and what is not ended by an empty line, are no events.
 */
export class EventParser {
  readonly #decoder = new TextDecoder(); // drops a byte order mark
  #rest = ""; // of a line that has no end yet
  #afterCr = false;
  #name = "";
  #data: string[] = [];

  /** The events that are complete with data. */
  *feed(data: Uint8Array): Generator<ServerEvent> {
    const text = this.#decoder.decode(data, { stream: true });
    for (const line of this.#lines(text)) {
      const event = this.#line(line);
      if (event) yield event;
    }
  }

  *#lines(text: string): Generator<string> {
    let start = 0;
    for (const match of text.matchAll(/\r\n|\r|\n/g)) {
      const end = match.index! + match[0].length;
      // The LF of a CRLF that was cut ends no line of its own.
      if (!(this.#afterCr && match[0] === "\n" && end === 1)) {
        const line = this.#rest + text.slice(start, match.index);
        this.#rest = "";
        yield line;
      }
      start = end;
    }
    if (text) this.#afterCr = text.endsWith("\r");
    this.#rest += text.slice(start);
  }

  #line(line: string): ServerEvent | undefined {
    if (line === "") {
      const event = { name: this.#name || "message", data: this.#data.join("\n") };
      const hasData = this.#data.length > 0;
      this.#name = "";
      this.#data = [];
      return hasData ? event : undefined;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.#name = value;
    else if (field === "data") this.#data.push(value);
    return undefined; // a comment (an empty field), or a field that means nothing here
  }
}

function parseObject(data: string): JsonObject {
  try {
    const value: unknown = JSON.parse(data);
    if (typeof value === "object" && value !== null) return value as JsonObject;
  } catch {
    // no JSON: the text itself
  }
  return { error: data, message: data };
}

function reason(value: JsonObject): string {
  return typeof value["error"] === "string" ? value["error"] : JSON.stringify(value);
}

/** A kind of stream: the events that are told while the work goes on, and its failure. */
export interface Kind<T> {
  readonly event: string;
  readonly convert: (value: JsonObject) => T;
  readonly failure: (value: JsonObject) => ApiError;
  /** Where the call is made again, they come again, from the first. */
  readonly again: boolean;
}

export const BUILD: Kind<BuildLog> = {
  event: "build_log",
  convert: toBuildLog,
  failure: (value) =>
    new BuildError(reason(value), typeof value["step"] === "number" ? value["step"] : undefined),
  again: true,
};

export const OUTPUT: Kind<Output> = {
  event: "output",
  convert: toOutput,
  failure: (value) => new ApiError(0, reason(value)),
  again: false,
};

/** Follows the events of one call up to its result. */
export class ResultStream<T> {
  readonly #parser = new EventParser();
  readonly #kind: Kind<T>;
  #result: { value: unknown } | undefined;

  constructor(kind: Kind<T>) {
    this.#kind = kind;
  }

  /** What is told in data. Throws an ApiError at an error event. */
  *feed(data: Uint8Array): Generator<T> {
    for (const event of this.#parser.feed(data)) {
      if (event.name === this.#kind.event) yield this.#kind.convert(parseObject(event.data));
      else if (event.name === "error") throw this.#kind.failure(parseObject(event.data));
      else if (event.name === "result") this.#result = { value: JSON.parse(event.data) };
    }
  }

  /** At the stream's end: the result. */
  result(): unknown {
    if (!this.#result) throw new TransportError("the stream of events ended before its result");
    return this.#result.value;
  }
}
