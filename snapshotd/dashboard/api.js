// api.js - calls of the daemon. It wants a key, or through its socket a token that came with
// the page's address, after the '#'. That lives in the tab's sessionStorage and goes out as a
// header, never in an address.

const STORED = "varve-api-key";

export class ApiError extends Error {
	constructor(status, message) {
		super(message);
		this.status = status; // 0: no answer
	}
	// The daemon does not know this call (an older one).
	get absent() {
		return this.status === 404 || this.status === 405 || this.status === 501;
	}
}

function takeToken() {
	const fragment = /^#token=([0-9a-f]+)$/.exec(location.hash);
	if (!fragment)
		return false;
	sessionStorage.setItem(STORED, fragment[1]);
	history.replaceState(null, "", location.pathname); // not to be seen, kept or shared
	return true;
}
takeToken();
// Where the page is open already, another fragment loads nothing by itself.
window.addEventListener("hashchange", () => {
	if (takeToken())
		location.reload();
});

let askForKey = null; // (wrong) => Promise<string>
let asking = null;

export function onKeyNeeded(fn) {
	askForKey = fn;
}

export function hasKey() {
	return Boolean(sessionStorage.getItem(STORED));
}

export function forgetKey() {
	sessionStorage.removeItem(STORED);
}

// One question, however many calls wait for its answer.
async function newKey(refused) {
	const now = sessionStorage.getItem(STORED);
	if (now && now !== refused)
		return; // given meanwhile
	if (!asking) {
		asking = askForKey(Boolean(refused)).then((key) => {
			sessionStorage.setItem(STORED, key);
		}).finally(() => {
			asking = null;
		});
	}
	await asking;
}

async function failure(response) {
	let message = `${response.status} ${response.statusText}`;
	try {
		const body = await response.json();
		if (typeof body.error === "string")
			message = body.error;
	} catch {
		// no JSON: the status must do
	}
	return new ApiError(response.status, message);
}

async function request(method, path, { body, events, signal } = {}) {
	for (;;) {
		const key = sessionStorage.getItem(STORED);
		const headers = { Accept: events ? "text/event-stream" : "application/json" };
		if (key)
			headers["X-API-Key"] = key;
		if (body !== undefined)
			headers["Content-Type"] = "application/json";
		let response;
		try {
			response = await fetch(path, {
				method, headers, signal, cache: "no-store", credentials: "omit",
				body: body === undefined ? undefined : JSON.stringify(body),
			});
		} catch (e) {
			if (e.name === "AbortError")
				throw e;
			throw new ApiError(0, "the daemon does not answer");
		}
		if (response.status === 401) {
			await newKey(key);
			continue;
		}
		if (!response.ok)
			throw await failure(response);
		return response;
	}
}

export async function call(method, path, body, signal) {
	const response = await request(method, path, { body, signal });
	if (response.status === 204)
		return null;
	try {
		return await response.json();
	} catch (e) {
		if (e.name === "AbortError")
			throw e;
		throw new ApiError(0, "the answer ended early");
	}
}

export const get = (path, signal) => call("GET", path, undefined, signal);

// Events of one stream (HTML standard, 9.2.6): returns what takes text and calls fn(type, data).
export function eventParser(fn) {
	let rest = "", type = "", data = [];
	const line = (s) => {
		if (s === "") {
			if (data.length)
				fn(type || "message", data.join("\n"));
			type = "";
			data = [];
			return;
		}
		const colon = s.indexOf(":");
		const field = colon < 0 ? s : s.slice(0, colon);
		const value = colon < 0 ? "" : s.slice(colon + 1).replace(/^ /, "");
		if (field === "event")
			type = value;
		else if (field === "data")
			data.push(value);
	};
	return (text) => {
		rest += text;
		// A lone CR at the end may be the first half of a CRLF.
		const lines = rest.split(/\r\n|\n|\r(?!$)/);
		rest = lines.pop();
		lines.forEach(line);
	};
}

// Call with an answer in events: onEvent(type, object) for each. Resolves with the
// object of the event "result", or null; an event "error" is thrown. A daemon that
// answers with JSON all the same is understood.
export async function stream(method, path, body, onEvent, signal) {
	const response = await request(method, path, { body, events: true, signal });
	const type = response.headers.get("Content-Type") || "";
	if (!type.startsWith("text/event-stream"))
		return response.status === 204 ? null : response.json();

	let result = null, failed = null;
	const feed = eventParser((event, data) => {
		let object;
		try {
			object = JSON.parse(data);
		} catch {
			return;
		}
		if (event === "result")
			result = object;
		else if (event === "error")
			failed = object;
		onEvent(event, object);
	});
	const reader = response.body.getReader();
	const decoder = new TextDecoder();
	try {
		for (;;) {
			const { done, value } = await reader.read();
			if (done)
				break;
			feed(decoder.decode(value, { stream: true }));
		}
	} catch (e) {
		if (e.name === "AbortError")
			throw e;
		throw new ApiError(0, "the connection broke off");
	}
	if (failed) {
		const e = new ApiError(422, String(failed.error || "it failed"));
		e.step = failed.step;
		throw e;
	}
	return result;
}

export const enc = encodeURIComponent;
