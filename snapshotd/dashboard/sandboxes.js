// sandboxes.js - sandboxes, what each has changed, and their end.

import { el, button, facts, setText, setHidden, toast, uid } from "./dom.js";
import { bytes, count, ago, when, seconds, shortId } from "./format.js";
import { call, enc } from "./api.js";
import { confirm } from "./dialogs.js";
import { Table } from "./table.js";
import { diffSection } from "./diff.js";
import { statusCell, jsonBlock } from "./snapshots.js";

const idOf = (s) => s.sandboxID;
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
				{ label: "Sandbox", text: idOf, sort: idOf },
				{ label: "Status", build: (td) => statusCell(td, (s) => [String(s.status), KINDS[s.status] || "busy"]),
					tip: (s) => s.reason, sort: (s) => s.status },
				{ label: "Image", text: (s) => this.imageOf(s), wide: true, cls: "grow" },
				{ label: "Changed", num: true, wide: true, text: (s) => count(s.changedInodes), sort: (s) => s.changedInodes || 0,
					title: "Files and directories that differ from its image" },
				{ label: "Written", num: true, text: (s) => bytes(s.upperBytes), sort: (s) => s.upperBytes || 0,
					title: "Bytes that it holds beside its image" },
				{ label: "Started", wide: true, text: (s) => ago(s.startedAt), tip: (s) => when(s.startedAt),
					sort: (s) => s.startedAt || "" },
				{ label: "Kill", unseen: true, cls: "do", build: (td, row) => {
					const b = button("Kill", () => this.kill(row), { class: "danger small" });
					td.append(b);
					return (item) => b.setAttribute("aria-label", `Kill the sandbox ${idOf(item)}`);
				} },
			],
			detail: (box, row) => this.detail(box, row),
		});
		const head = uid("h");
		this.node = el("section", { "aria-labelledby": head },
			el("div", { class: "bar" }, el("h1", { id: head }, "Sandboxes")), this.note, this.table.node);
	}

	mountOf(s) {
		return this.mounts.find((m) => m.id === s.mountID);
	}

	imageOf(s) {
		const known = this.snapshots.find((x) => x.id === s.fromCheckpointId);
		return known?.name || s.snapshot || shortId(s.contentHash || s.fromCheckpointId);
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
		const why = el("p", { class: "error", hidden: true });
		box.append(why);
		const set = facts(box), metadata = jsonBlock(box, "Metadata");
		const changes = el("div");
		box.append(changes);
		const diff = diffSection(changes, "Show what has changed", () => `/api/mounts/${enc(row.item.mountID)}/diff`);
		return {
			update: (s) => {
				const m = this.mountOf(s);
				setText(why, s.reason || "");
				setHidden(why, !s.reason);
				set([["Started", when(s.startedAt)], ["Changed", `${count(s.changedInodes)} files and directories`],
					["Stops after", s.timeout === undefined ? "" : s.timeout ? `${seconds(s.timeout)} without a call` : "only when killed"],
					[s.status === "running" ? "Stops at" : "Stopped", when(s.endAt)], ["Removed at", when(s.removeAt)],
					["CPUs", s.cpuCount], ["Memory", s.memoryMB ? bytes(s.memoryMB * 1048576) : ""],
					["Disk", s.diskMB ? bytes(s.diskMB * 1048576) : ""], ["Mount", m ? m.mountpoint : "", true],
					["Snapshot", s.fromCheckpointId, true], ["Id", idOf(s), true]]);
				metadata(s.metadata && Object.keys(s.metadata).length ? s.metadata : null);
				setHidden(changes, !s.mountID);
			},
			close: () => diff.close(),
		};
	}

	async kill(row) {
		const id = idOf(row.item), written = row.item.upperBytes;
		if (!await confirm({ title: `Kill the sandbox ${id}?`, verb: "Kill", danger: true,
			text: "Its processes end, and what it has written is lost" +
				(written ? ` (${bytes(written)})` : "") + ". Its checkpoints stay." }))
			return;
		try {
			await call("DELETE", `/api/sandboxes/${enc(id)}`);
			toast(`The sandbox ${id} is gone.`);
		} catch (e) {
			toast(`${id}: ${e.message}`, true);
		}
		this.ctx.refresh("sandboxes", "mounts");
	}
}
