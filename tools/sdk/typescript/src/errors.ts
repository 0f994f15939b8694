/** What can go wrong: every error of this package is a VarveError. */

/** Base of all errors of this package. */
export class VarveError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** The daemon could not be reached, or the connection broke off. */
export class TransportError extends VarveError {}

/** There was no connection: nothing has been sent. */
export class UnreachableError extends TransportError {}

/**
 * The daemon refused or failed. `status` is HTTP's (0 for what failed once a reply had begun),
 * `reason` says what and why.
 */
export class ApiError extends VarveError {
  readonly status: number;
  readonly reason: string;
  /** Seconds, where the daemon says so. */
  retryAfter: number | undefined;
  /** 503: the same call, with its key, is still under way. */
  pending = false;

  constructor(status: number, reason: string) {
    super(status ? `${reason} (status ${status})` : reason);
    this.status = status;
    this.reason = reason;
  }
}

/** 400: something in the request is malformed. */
export class InvalidRequestError extends ApiError {}

/** 401: the API key is missing or wrong. */
export class AuthenticationError extends ApiError {}

/** 404: no such sandbox, snapshot, checkpoint, build or file. */
export class NotFoundError extends ApiError {}

/** 409: the name is taken, or the thing is busy. */
export class ConflictError extends ApiError {}

/** 507: the store or a quota is full. */
export class NoSpaceError extends ApiError {}

/** An image could not be built. `step` is the number of the failing step, where known. */
export class BuildError extends ApiError {
  readonly step: number | undefined;

  constructor(reason: string, step?: number, status = 422) {
    super(status, reason);
    this.step = step;
  }
}

/** A command that was run with `check` ended with another status than 0. */
export class CommandError extends VarveError {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;

  constructor(command: string, exitCode: number, stdout: string, stderr: string) {
    const detail = stderr.trim().slice(-500);
    super(`${JSON.stringify(command)} ended with ${exitCode}${detail ? `: ${detail}` : ""}`);
    this.exitCode = exitCode;
    this.stdout = stdout;
    this.stderr = stderr;
  }
}

/** What was waited for did not happen in time. It may still happen. */
export class WaitTimeoutError extends VarveError {}

const BY_STATUS: Record<number, new (status: number, reason: string) => ApiError> = {
  400: InvalidRequestError,
  401: AuthenticationError,
  404: NotFoundError,
  409: ConflictError,
  507: NoSpaceError,
};

/** The error for a reply with a failing status, and these headers. */
export function apiError(
  status: number,
  body: string,
  retryAfter?: string,
  pending?: unknown,
): ApiError {
  const error = errorOf(status, body);
  error.pending = pending !== undefined;
  if (retryAfter !== undefined && /^[0-9]+$/.test(retryAfter)) error.retryAfter = Number(retryAfter);
  return error;
}

function errorOf(status: number, body: string): ApiError {
  let reason = body.trim() || "the daemon gave no reason";
  let step: number | undefined;
  try {
    const value: unknown = JSON.parse(body);
    if (typeof value === "object" && value !== null) {
      const { error, step: number } = value as { error?: unknown; step?: unknown };
      if (typeof error === "string") reason = error;
      if (typeof number === "number") step = number;
    }
  } catch {
    // no JSON: a proxy's page, say; the text is the reason
  }
  if (status === 422) return new BuildError(reason, step);
  return new (BY_STATUS[status] ?? ApiError)(status, reason);
}
