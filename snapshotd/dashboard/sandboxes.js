// sandboxes.js - sandboxes, what each has changed, and their end.

import { el, button, facts, setText, setHidden, toast, uid } from "./dom.js";
import { bytes, count, ago, when, seconds, shortId } from "./format.js";
import { call, enc } from "./api.js";
import { confirm } from "./dialogs.js";
import { Table } from "./table.js";
import { diffSection } from "./diff.js";
import { statusCell, jsonBlock } from "./snapshots.js";

const idOf = (s) => s.sandboxID || s.id;
const KINDS = { running: "good", failed: "bad", stopped: "off", killed: "off" };

export class SandboxesView {
	constructor(ctx) {
		this.ctx = ctx;
		this.mounts = [];
		this.wanted = null;
		this.note = el("p", { class: "note", role: "status" });
		this.table = new Table({
			caption: "Sandboxes", key: idOf, empty: "Loading",
			columns: [
				{ label: "Sandbox", text: (s) => shortId(idOf(s)), tip: idOf, sort: idOf },
				{ label: "Status", build: (td) => statusCell(td, (s) => [String(s.status || s.state || ""),
					KINDS[s.status || s.state] || "busy"]) },
				{ label: "Image", text: (s) => this.imageOf(s), wide: true, cls: "grow" },
				{ label: "Changed", num: true, text: (s) => this.changed(s), title: "Files and directories that differ from its image" },
				{ label: "Written", num: true, text: (s) => bytes(this.mountOf(s)?.upperBytes), sort: (s) => this.mountOf(s)?.upperBytes || 0,
					title: "Bytes that it holds beside its image" },
				{ label: "Started", wide: true, text: (s) => ago(s.startedAt || s.createdAt), tip: (s) => when(s.startedAt || s.createdAt),
					sort: (s) => s.startedAt || s.createdAt || "" },
				{ label: "Kill", unseen: true, cls: "do", build: (td, row) => {
					const b = button("Kill", () => this.kill(row), { class: "danger small" });
					td.append(b);
					return (item) => b.setAttribute("aria-label", `Kill the sandbox ${shortId(idOf(item))}`);
				} },
			],
			detail: (box, row) => this.detail(box, row),
		});
		const head = uid("h");
		this.node = el("section", { "aria-labelledby": head },
			el("div", { class: "bar" }, el("h1", { id: head }, "Sandboxes")), this.note, this.table.node);
	}

	mountOf(s) {
		const id = s.mountID || s.mountId;
		return this.mounts.find((m) => id ? m.id === id : m.mountpoint.includes(`/${idOf(s)}/`));
	}

	changed(s) {
		const m = this.mountOf(s);
		return m ? count(m.changedInodes) : "–";
	}

	imageOf(s) {
		const id = s.snapshotID || s.snapshotId || s.fromCheckpointId || s.snapshot;
		const known = this.snapshots.find((x) => x.id === id || x.name === id);
		return s.snapshotName || known?.name || this.mountOf(s)?.snapshot || (id ? shortId(id) : s.templateID || "");
	}

	show(arg) {
		this.wanted = arg;
	}

	hide() {
		this.table.closeAll();
	}

	update(state) {
		const src = state.sandboxes;
		this.mounts = state.mounts.data || [];
		this.snapshots = state.snapshots.data || [];
		setText(this.note, src.absent ? "This daemon does not run sandboxes." : src.error || "");
		setHidden(this.table.node, src.absent);
		if (!src.data)
			return;
		this.table.setEmpty("No sandbox runs.");
		this.table.update(src.data);
		if (this.wanted && this.table.reveal(this.wanted, true))
			this.wanted = null;
	}

	detail(box, row) {
		const set = facts(box), metadata = jsonBlock(box, "Metadata");
		const changes = el("div");
		box.append(changes);
		const diff = diffSection(changes, "Show what has changed", () => `/api/mounts/${enc(this.mountOf(row.item).id)}/diff`);
		return {
			update: (s) => {
				const m = this.mountOf(s);
				set([["Id", idOf(s)], ["Started", when(s.startedAt || s.createdAt)], ["Image", s.fromCheckpointId || s.snapshotID],
					["Ends after", s.timeout === undefined ? "" : s.timeout ? `${seconds(s.timeout)} without a call` : "only when killed"],
					["CPUs", s.cpuCount], ["Memory", s.memoryMB ? bytes(s.memoryMB * 1048576) : ""],
					["Disk", s.diskMB ? bytes(s.diskMB * 1048576) : ""], ["Mount", m ? m.mountpoint : ""]]);
				metadata(s.metadata && Object.keys(s.metadata).length ? s.metadata : null);
				setHidden(changes, !m);
			},
			close: () => diff.close(),
		};
	}

	async kill(row) {
		const id = idOf(row.item), m = this.mountOf(row.item);
		if (!await confirm({ title: `Kill the sandbox ${shortId(id)}?`, verb: "Kill", danger: true,
			text: "Its processes end, and what it has written is lost" +
				(m && m.upperBytes ? ` (${bytes(m.upperBytes)})` : "") + ". Its checkpoints stay." }))
			return;
		try {
			await call("DELETE", `/api/sandboxes/${enc(id)}`);
			toast(`The sandbox ${shortId(id)} is gone.`);
		} catch (e) {
			toast(`${shortId(id)}: ${e.message}`, true);
		}
		this.ctx.refresh("sandboxes", "mounts");
	}
}
