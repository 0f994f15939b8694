// builds.js - builds and their logs, live while they run.

import { el, button, facts, setText, setHidden, toast, uid } from "./dom.js";
import { duration, ago, when, shortId } from "./format.js";
import { call, get, stream, enc } from "./api.js";
import { confirm } from "./dialogs.js";
import { Table } from "./table.js";
import { Log } from "./log.js";
import { statusCell, jsonBlock } from "./snapshots.js";

const ENDED = { ready: "good", failed: "bad", cancelled: "off" };

export const isRunning = (b) => !(b.state in ENDED);
const begun = (b) => b.startedAt || b.createdAt;
const title = (b) => b.name || shortId(b.key || b.id);

function stateText(b) {
	return b.state === "step" ? `step ${b.step} of ${b.stepCount}` : String(b.state);
}

function took(b) {
	const from = Date.parse(begun(b));
	const to = b.endedAt ? Date.parse(b.endedAt) : isRunning(b) ? Date.now() : NaN;
	return Number.isFinite(to - from) ? duration(to - from) : "";
}

function steps(b) {
	const n = b.stepCount;
	if (!Number.isFinite(n))
		return "";
	return b.cachedSteps ? `${n}, ${b.cachedSteps} from the cache` : String(n);
}

export class BuildsView {
	constructor(ctx) {
		this.ctx = ctx;
		this.wanted = null;
		this.note = el("p", { class: "note", role: "status" });
		this.table = new Table({
			caption: "Builds", key: (b) => b.id, empty: "Loading",
			columns: [
				{ label: "Build", text: title, tip: (b) => b.id, sort: title },
				{ label: "State", build: (td) => statusCell(td, (b) => [stateText(b), ENDED[b.state] || "busy"]), sort: stateText },
				{ label: "Reason", wide: true, cls: "grow", text: (b) => b.error || "", tip: (b) => b.error },
				{ label: "Began", wide: true, text: (b) => ago(begun(b)), tip: (b) => when(begun(b)), sort: (b) => begun(b) || "" },
				{ label: "Took", num: true, text: took },
				{ label: "Cancel", unseen: true, cls: "do", build: (td, row) => {
					const b = button("Cancel", () => this.cancel(row), { class: "danger small" });
					td.append(b);
					return (item) => {
						b.classList.toggle("away", !isRunning(item));
						b.disabled = !isRunning(item);
						b.setAttribute("aria-label", `Cancel the build ${title(item)}`);
					};
				} },
			],
			detail: (box, row) => this.detail(box, row),
			// One at a time: each log is a connection, and a browser has only six.
			onToggle: (row) => {
				if (!row.open)
					return;
				this.table.closeAll(row.key);
				row.tr.scrollIntoView({ block: "nearest" });
			},
		});
		const head = uid("h");
		this.node = el("section", { "aria-labelledby": head },
			el("div", { class: "bar" }, el("h1", { id: head }, "Builds"),
				el("a", { class: "button primary", href: "#new" }, "Build a snapshot")),
			this.note, this.table.node);
	}

	show(arg) {
		this.wanted = arg;
		this.reveal();
	}

	hide() {
		this.table.closeAll(); // and with them, their streams
	}

	update(state) {
		const src = state.builds;
		setText(this.note, src.absent ? "This daemon does not build images." : src.error || "");
		setHidden(this.table.node, src.absent);
		if (!src.data)
			return;
		this.table.setEmpty("No builds yet.");
		this.table.update(src.data);
		this.reveal();
	}

	reveal() {
		if (this.wanted && this.table.reveal(this.wanted, true))
			this.wanted = null;
	}

	detail(box, row) {
		const error = el("p", { class: "error", hidden: true });
		box.append(error);
		const set = facts(box), failure = jsonBlock(box, "The failure in figures"), manifest = jsonBlock(box, "Manifest");
		const log = new Log("Log");
		const abort = new AbortController();
		box.append(log.node);
		this.follow(row, log, abort.signal);
		manifest(null);
		get(`/api/builds/${enc(row.key)}`, abort.signal).then((b) => manifest(b.manifest), () => {});
		return {
			update: (b) => {
				setText(error, b.error || "");
				setHidden(error, !b.error);
				set([["Base", b.base], ["Steps", steps(b)], ["Failed in", b.failedStep ? `step ${b.failedStep}` : ""],
					["Began", when(begun(b))], ["Ended", when(b.endedAt)],
					["Mount kept", b.mountID, true], ["Snapshot", b.snapshotID, true], ["Id", b.id, true], ["Key", b.key, true]]);
				failure(b.failure);
			},
			close: () => abort.abort(),
		};
	}

	// The log from its start to the build's end, over again where the connection breaks.
	async follow(row, log, signal) {
		for (;;) {
			try {
				log.clear();
				await stream("GET", `/api/builds/${enc(row.key)}/logs`, undefined, (type, e) => {
					if (type === "build_log" || type === "message")
						log.event(e);
				}, signal).then((r) => Array.isArray(r) && r.forEach((e) => log.event(e)));
				log.end("The log ends here.");
				this.ctx.refresh("builds");
				return;
			} catch (e) {
				if (e.name === "AbortError")
					return;
				if (e.status !== 0) {
					log.end(e.message, e.status === 422 ? "bad" : "");
					this.ctx.refresh("builds");
					return;
				}
				log.end("The connection is lost; trying again.");
			}
			await new Promise((r) => setTimeout(r, 2000));
			if (signal.aborted)
				return;
		}
	}

	async cancel(row) {
		const b = row.item, name = title(b);
		if (!await confirm({ title: `Cancel the build ${name}?`, verb: "Cancel the build", danger: true,
			text: "Whoever waits for its image is told so. Steps that are done stay cached." }))
			return;
		try {
			await call("DELETE", `/api/builds/${enc(b.id)}`);
			toast(`The build ${name} is being cancelled.`);
		} catch (e) {
			toast(`${name}: ${e.message}`, true);
		}
		this.ctx.refresh("builds", "snapshots");
	}
}
