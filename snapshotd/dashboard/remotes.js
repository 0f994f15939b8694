// remotes.js - the buckets that the daemon knows, what is in each, and taking it from there.

import { el, button, facts, setText, setHidden, toast, uid } from "./dom.js";
import { bytes, count, ago, when } from "./format.js";
import { get, stream, enc } from "./api.js";
import { Table } from "./table.js";

const SHOWN_MAX = 200; // snapshots of a remote

export class RemotesView {
	constructor(ctx) {
		this.ctx = ctx;
		this.note = el("p", { class: "note", role: "status" });
		this.table = new Table({
			caption: "Remotes", key: (r) => r.name, empty: "Loading",
			columns: [
				{ label: "Name", text: (r) => r.name, sort: (r) => r.name },
				{ label: "URL", cls: "path", text: (r) => r.url, sort: (r) => r.url },
				{ label: "Mode", text: (r) => r.readOnly ? "read-only" : "read-write" },
				{ label: "Here", num: true, text: (r) => count(this.here(r).length),
					title: "Snapshots of the store that it has, too" },
			],
			detail: (box, row) => this.detail(box, row),
		});
		const head = uid("h");
		this.node = el("section", { "aria-labelledby": head },
			el("div", { class: "bar" }, el("h1", { id: head }, "Remotes")), this.note, this.table.node);
	}

	show() {
		this.ctx.refresh("remotes");
	}

	hide() {
		this.table.closeAll();
	}

	here(remote) {
		return this.snapshots.filter((s) => (s.remotes || []).some((x) => x.remote === remote.name));
	}

	update(state) {
		const src = state.remotes;
		this.snapshots = state.snapshots.data || [];
		setText(this.note, src.absent ? "This daemon knows no remotes." : src.error || "");
		setHidden(this.table.node, src.absent);
		if (!src.data)
			return;
		this.table.setEmpty("No remotes yet; `varve remote add NAME URL` makes one known.");
		this.table.update(src.data);
	}

	detail(box, row) {
		const set = facts(box);
		const status = el("p", { class: "hint", role: "status" });
		const list = el("div");
		const stop = new AbortController();
		const load = button("Show what it has", () => this.load(row.item, list, status, stop.signal));
		box.append(el("div", { class: "actions left" }, load), status, list);
		return {
			update: (r) => set([["URL", r.url, true], ["Endpoint", r.endpoint, true], ["Region", r.region],
				["Bucket's id", r.bucket || "not opened yet", true]].filter((f) => f[1])),
			close: () => stop.abort(),
		};
	}

	async load(remote, list, status, signal) {
		setText(status, "Asking the bucket");
		try {
			const found = await get(`/api/remotes/${enc(remote.name)}/snapshots?limit=${SHOWN_MAX}`, signal);
			setText(status, found.length ? found.length === SHOWN_MAX ? `The first ${SHOWN_MAX}.` : "" :
				"It has no snapshots yet.");
			const table = new Table({
				caption: `Snapshots of ${remote.name}`, key: (s) => s.name, empty: "",
				columns: [
					{ label: "Name", text: (s) => s.name, tip: (s) => s.id, sort: (s) => s.name },
					{ label: "Size", num: true, text: (s) => bytes(s.sizeBytes), sort: (s) => s.sizeBytes },
					{ label: "Created", wide: true, text: (s) => ago(s.createdAt), tip: (s) => when(s.createdAt),
						sort: (s) => s.createdAt },
					{ label: "Pull", unseen: true, build: (td) => this.pullCell(td, remote, status, signal) },
				],
			});
			table.update(found);
			list.replaceChildren(...(found.length ? [table.node] : []));
		} catch (e) {
			if (!signal.aborted)
				setText(status, `It failed: ${e.message}`);
		}
	}

	pullCell(td, remote, status, signal) {
		let item;
		const pull = button("Pull", () => this.pull(remote, item, pull, status, signal));
		td.append(pull);
		return (s) => {
			item = s;
			setText(pull, s.snapshotID ? "Here" : "Pull");
			pull.setAttribute("aria-label", s.snapshotID ? `${s.name} is here` : `Pull ${s.name}`);
			pull.disabled = Boolean(s.snapshotID);
		};
	}

	async pull(remote, item, pull, status, signal) {
		pull.disabled = true;
		setText(status, `Pulling ${item.name}`);
		try {
			await stream("POST", "/api/snapshots/pull", { remote: remote.name, snapshot: item.name },
				(type, p) => type === "progress" && setText(status, `Pulling ${item.name}: ${bytes(p.doneBytes)}` +
					(p.totalBytes ? ` of ${bytes(p.totalBytes)}` : "")), signal);
			setText(status, `${item.name} is here.`);
			setText(pull, "Here");
			toast(`${item.name} was pulled from ${remote.name}.`);
			this.ctx.refresh("snapshots");
		} catch (e) {
			pull.disabled = false;
			if (!signal.aborted)
				setText(status, `It failed: ${e.message}`);
		}
	}
}
