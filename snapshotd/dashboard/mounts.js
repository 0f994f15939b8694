// mounts.js - mounts, what each has changed, and their quotas.

import { el, facts, setText, setHidden, uid } from "./dom.js";
import { bytes, count, ago, when, shortId } from "./format.js";
import { enc } from "./api.js";
import { Table } from "./table.js";
import { diffSection } from "./diff.js";
import { statusCell } from "./snapshots.js";

function modes(m) {
	return [m.readOnly ? "read-only" : "", m.volatile ? "volatile" : "", m.sealing ? "sealing" : "",
		m.cache === "shared" ? "shared cache" : ""].filter(Boolean).join(", ");
}

function quota(m) {
	const used = m.upperBytes + m.metaBytes;

	return m.quotaBytes ? `${bytes(used)} of ${bytes(m.quotaBytes)}` : bytes(used);
}

export class MountsView {
	constructor() {
		this.note = el("p", { class: "note", role: "status" });
		this.table = new Table({
			caption: "Mounts", key: (m) => m.id, empty: "Loading",
			columns: [
				{ label: "Mountpoint", cls: "path", text: (m) => m.mountpoint || shortId(m.id), tip: (m) => m.id, sort: (m) => m.mountpoint },
				{ label: "Status", build: (td) => statusCell(td, (m) => [String(m.status), m.attached ? "good" : "off"]), sort: (m) => m.status },
				{ label: "Snapshot", wide: true, text: (m) => m.snapshot || shortId(m.snapshotId), sort: (m) => m.snapshot || "" },
				{ label: "Changed", num: true, text: (m) => count(m.changedInodes), sort: (m) => m.changedInodes || 0,
					title: "Files and directories that differ from its snapshot" },
				{ label: "Written", num: true, text: quota, sort: (m) => m.upperBytes + m.metaBytes,
					title: "Bytes that it holds beside its snapshot, of its quota" },
				{ label: "Mode", wide: true, text: modes },
				{ label: "Created", wide: true, text: (m) => ago(m.createdAt), tip: (m) => when(m.createdAt), sort: (m) => m.createdAt || "" },
			],
			detail: (box, row) => this.detail(box, row),
		});
		const head = uid("h");
		this.node = el("section", { "aria-labelledby": head },
			el("div", { class: "bar" }, el("h1", { id: head }, "Mounts")), this.note, this.table.node);
	}

	show() {}

	hide() {
		this.table.closeAll();
	}

	update(state) {
		const src = state.mounts;
		setText(this.note, src.absent ? "This daemon has no mounts." : src.error || "");
		setHidden(this.table.node, src.absent);
		if (!src.data)
			return;
		this.table.setEmpty("Nothing is mounted.");
		this.table.update(src.data);
	}

	detail(box, row) {
		const set = facts(box);
		const diff = diffSection(box, "Show what has changed", () => `/api/mounts/${enc(row.item.id)}/diff`);
		return {
			update: (m) => set([["Snapshot", m.snapshot || shortId(m.snapshotId)],
				["Mode", modes(m) || "read-write, private cache"], ["Quota", m.quotaBytes ? bytes(m.quotaBytes) : "none"],
				["Epoch", count(m.epoch)], ["Created", when(m.createdAt)], ["Mounted on", m.mountpoint, true],
				["Id", m.id, true], ["Snapshot's id", m.snapshotId, true], ["Base tree", m.base, true]]),
			close: () => diff.close(),
		};
	}
}
