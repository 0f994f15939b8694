/**
 * Canonical JSON (RFC 8785), for cache keys. Numbers are integers between -2^53 and 2^53: that is
 * all a manifest holds, and all that every language writes in the same way.
 */

/** What JSON has. */
export type Json =
  null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

const INTEGER_MAX = 2 ** 53;

/** Throws unless text is Unicode: a lone surrogate has no UTF-8. */
export function checkUnicode(text: string): string {
  if (/\p{Surrogate}/u.test(text)) throw new TypeError(`${JSON.stringify(text)} is not Unicode`);
  return text;
}

function number(value: number): string {
  if (!Number.isInteger(value) || Math.abs(value) > INTEGER_MAX) {
    throw new TypeError(`${value} is no integer between -2^53 and 2^53`);
  }
  return JSON.stringify(value);
}

/** The canonical JSON of a value. Throws TypeError for what JSON (or this module) does not have. */
export function canonicalize(value: Json): string {
  if (value === null || typeof value === "boolean") return String(value);
  // JSON.stringify escapes only the quote, the backslash and controls: what RFC 8785 asks.
  if (typeof value === "string") return JSON.stringify(checkUnicode(value));
  if (typeof value === "number") return number(value);
  if (Array.isArray(value)) return `[${value.map(canonicalize).join(",")}]`;
  if (typeof value === "object") {
    const object = value as { readonly [name: string]: Json };
    // sort() compares UTF-16 code units, which is the order of keys.
    const names = Object.keys(object).sort();
    return `{${names.map((n) => `${canonicalize(n)}:${canonicalize(object[n]!)}`).join(",")}}`;
  }
  throw new TypeError(`${typeof value} has no canonical JSON form`);
}
