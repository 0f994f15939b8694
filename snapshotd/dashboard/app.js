// app.js - what the page shows is in its address (#snapshots, #builds/ID, ...); what the
// daemon has is asked for every two seconds while the page is seen. A call that an older
// daemon lacks makes its view say so, and nothing else.

import { el, setText, setAttr, setHidden } from "./dom.js";
import { get, onKeyNeeded, ApiError } from "./api.js";
import { askKey } from "./dialogs.js";
import { bytes, count, isBuildStep } from "./format.js";
import { SnapshotsView } from "./snapshots.js";
import { NewView } from "./new.js";
import { BuildsView, isRunning } from "./builds.js";
import { SandboxesView } from "./sandboxes.js";
import { MountsView } from "./mounts.js";
import { RemotesView } from "./remotes.js";
import { StoreView } from "./store.js";

const POLL_MS = 2000, ABSENT_MS = 60000;

const state = {};
let range = 86400, current = null, allWorks = true, started = false;

// `when`: the view that it is for, else always.
const sources = {
	snapshots: { every: POLL_MS, fetch: fetchSnapshots },
	builds: { every: POLL_MS, fetch: () => get("/api/builds") },
	sandboxes: { every: POLL_MS, fetch: () => get("/api/sandboxes") },
	mounts: { every: POLL_MS, fetch: () => get("/api/mounts") },
	remotes: { every: 10000, when: "remotes", fetch: () => get("/api/remotes") },
	stats: { every: 10000, fetch: () => get("/api/stats") },
	history: { every: 60000, when: "store", fetch: fetchHistory },
};
for (const name of Object.keys(sources))
	state[name] = { data: null, error: "", absent: false, due: 0, busy: false };

// With the steps of builds, for the lineage, where the daemon can tell them.
async function fetchSnapshots() {
	if (allWorks) {
		try {
			return await get("/api/snapshots?all=1");
		} catch (e) {
			if (e.status !== 400)
				throw e;
			allWorks = false;
		}
	}
	return get("/api/snapshots");
}

async function fetchHistory() {
	const seconds = range;
	const list = await get(`/api/stats/history?points=600${seconds ? `&seconds=${seconds}` : ""}`);
	state.history.range = seconds;
	return list;
}

const ctx = {
	refresh(...names) {
		for (const n of names)
			state[n].due = 0;
		poll();
	},
	setRange(s) {
		range = s;
		ctx.refresh("history");
	},
};

const views = {
	snapshots: { label: "Snapshots", view: new SnapshotsView(ctx),
		note: () => state.snapshots.data ? count(state.snapshots.data.filter((s) => !isBuildStep(s)).length) : "" },
	builds: { label: "Builds", view: new BuildsView(ctx), note: () => {
		const n = (state.builds.data || []).filter(isRunning).length;
		return n ? `${n} running` : "";
	} },
	sandboxes: { label: "Sandboxes", view: new SandboxesView(ctx),
		note: () => state.sandboxes.data ? count(state.sandboxes.data.length) : "" },
	mounts: { label: "Mounts", view: new MountsView(ctx),
		note: () => state.mounts.data ? count(state.mounts.data.length) : "" },
	remotes: { label: "Remotes", view: new RemotesView(ctx),
		note: () => state.remotes.data ? count(state.remotes.data.length) : "" },
	store: { label: "Store", view: new StoreView(ctx),
		note: () => state.stats.data ? bytes(state.stats.data.storedBytes) : "" },
	new: { label: "Build a snapshot", view: new NewView(ctx) },
};

const main = document.getElementById("main");
const connection = document.getElementById("connection");

function build() {
	const nav = document.getElementById("nav");
	for (const [name, v] of Object.entries(views)) {
		v.view.node.id = `view-${name}`;
		v.view.node.hidden = true;
		main.append(v.view.node);
		if (!v.note)
			continue;
		v.badge = el("span", { class: "count" });
		v.link = el("a", { href: `#${name}` }, v.label, " ", v.badge);
		nav.append(v.link);
	}
	// A link to where the address is already: nothing would happen by itself.
	main.addEventListener("click", (e) => {
		const a = e.target.closest("a[href^='#']");
		if (a && a.getAttribute("href") === location.hash)
			route();
	});
	document.getElementById("skip").addEventListener("click", (e) => {
		e.preventDefault(); // the address is the view's
		main.focus();
	});
}

function route() {
	const [name, arg] = location.hash.slice(1).split("/");
	const next = name in views ? name : "snapshots";
	let wanted = null;
	try {
		wanted = arg ? decodeURIComponent(arg) : null;
	} catch {
		// an address that somebody made up
	}
	if (current !== next) {
		if (current) {
			views[current].view.node.hidden = true;
			views[current].view.hide?.();
		}
		current = next;
		views[next].view.node.hidden = false;
		for (const [n, v] of Object.entries(views))
			if (v.link)
				setAttr(v.link, "aria-current", n === next ? "page" : null);
		document.title = `${views[next].label} – Varve`;
		window.scrollTo(0, 0);
		views[next].view.update(state);
	}
	views[next].view.show(wanted);
	poll();
}

function showAll() {
	for (const v of Object.values(views))
		if (v.note)
			setText(v.badge, v.note());
	const lost = Object.values(state).some((s) => s.lost);
	const known = Object.values(state).some((s) => s.data);
	setText(connection, lost ? "No answer, trying again" : known ? "Connected" : "Connecting");
	connection.className = `link ${lost ? "bad" : known ? "good" : ""}`;
	setHidden(connection, false);
	views[current].view.update(state);
}

async function fetchOne(name) {
	const s = state[name];
	s.busy = true;
	s.again = false;
	try {
		s.data = await sources[name].fetch();
		s.error = "";
		s.at = Date.now();
		s.absent = s.lost = false;
		s.due = Date.now() + sources[name].every;
	} catch (e) {
		if (!(e instanceof ApiError))
			throw e;
		s.absent = e.absent;
		s.lost = e.status === 0;
		s.error = e.absent || s.lost ? "" : e.message;
		s.due = Date.now() + (e.absent ? ABSENT_MS : sources[name].every);
	} finally {
		s.busy = false;
	}
	showAll();
	if (s.again)
		ctx.refresh(name);
}

// The first call goes alone: it finds out whether a key is needed.
async function begin() {
	await fetchOne("snapshots");
	started = true;
	poll();
}

// Ask for what is due. What is asked for already is asked again after, if it was to be fresh.
function poll() {
	if (document.hidden || !started)
		return;
	const now = Date.now();
	for (const [name, source] of Object.entries(sources)) {
		const s = state[name];
		if (s.due > now || (source.when && source.when !== current))
			continue;
		if (s.busy)
			s.again = s.again || s.due === 0;
		else
			fetchOne(name);
		if (s.due === 0)
			s.due = now + source.every;
	}
}

onKeyNeeded(askKey);
build();
window.addEventListener("hashchange", route);
document.addEventListener("visibilitychange", poll);
setInterval(poll, 500);
route();
begin();
