// snapshots.js - the table of snapshots and their lineage.

import { el, button, facts, setText, setHidden, toast, uid } from "./dom.js";
import { bytes, count, ago, when, seconds, isBuildStep, label, shortId } from "./format.js";
import { call, enc } from "./api.js";
import { confirm, prompt } from "./dialogs.js";
import { Table } from "./table.js";
import { Lineage, withoutSteps } from "./lineage.js";
import { diffSection } from "./diff.js";

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

const shared = (s) => Math.max(0, (s.sizeBytes || 0) - (s.newBytes || 0));

export function statusCell(td, of) {
	const badge = el("span", { class: "badge" });
	td.append(badge);
	return (item) => {
		const [text, kind] = of(item);
		setText(badge, text);
		const cls = `badge ${kind}`;
		if (badge.className !== cls)
			badge.className = cls;
	};
}

const KINDS = { ready: "good", building: "busy", failed: "bad" };

export class SnapshotsView {
	constructor(ctx) {
		this.ctx = ctx;
		this.wanted = null;
		this.filter = el("input", { type: "search", id: "filter", placeholder: "Filter by name, id or status",
			"aria-label": "Filter snapshots", autocomplete: "off", spellcheck: "false", on: { input: () => this.fill() } });
		this.steps = el("input", { type: "checkbox", id: "steps", on: { change: () => this.fill() } });
		this.stepsBox = el("label", { class: "check", for: "steps", hidden: true }, this.steps, " Build steps");
		this.note = el("p", { class: "note", role: "status" });
		this.table = new Table({
			caption: "Snapshots", key: (s) => s.id, empty: "No snapshots yet.",
			columns: [
				{ label: "Name", text: label, tip: (s) => s.id, sort: label },
				{ label: "Status", build: (td) => statusCell(td, (s) =>
					[[s.status, ...(s.pinned ? ["pinned"] : []), ...(s.share && s.share !== "local" ? [s.share] : [])]
						.join(", "), KINDS[s.status] || ""]), sort: (s) => s.status },
				{ label: "Size", num: true, text: (s) => s.root ? bytes(s.sizeBytes) : "–", sort: (s) => s.sizeBytes || 0,
					title: "Logical size: the sum of its regular files" },
				{ label: "New", num: true, text: (s) => s.root ? bytes(s.newBytes) : "–", sort: (s) => s.newBytes || 0,
					title: "What it added to the store, compressed" },
				{ label: "Shared", num: true, wide: true, text: (s) => s.root ? bytes(shared(s)) : "–", sort: shared,
					title: "Its size less what it added: in the store before, or compressed away" },
				{ label: "Last used", wide: true, text: (s) => ago(s.lastUsedAt), tip: (s) => when(s.lastUsedAt),
					sort: (s) => s.lastUsedAt || "" },
				{ label: "Created", wide: true, text: (s) => ago(s.createdAt), tip: (s) => when(s.createdAt),
					sort: (s) => s.createdAt || "" },
			],
			detail: (box, row) => this.detail(box, row),
			rowClass: (s) => isBuildStep(s) ? "minor" : "",
		});
		this.lineage = new Lineage();
		const head = uid("h"), lineageHead = uid("h");
		this.node = el("section", { "aria-labelledby": head },
			el("div", { class: "bar" }, el("h1", { id: head }, "Snapshots"), this.filter, this.stepsBox,
				el("a", { class: "button primary", href: "#new", id: "new-snapshot" }, "Build a snapshot")),
			this.note,
			el("div", { class: "split" }, this.table.node,
				el("section", { class: "aside", "aria-labelledby": lineageHead },
					el("h2", { id: lineageHead }, "Lineage"), this.lineage.node)));
	}

	show(arg) {
		this.wanted = arg;
		if (this.state)
			this.fill();
	}

	update(state) {
		this.state = state;
		const src = state.snapshots;
		setText(this.note, src.error || "");
		this.table.setEmpty(src.data ? "No snapshots yet." : "Loading");
		if (src.data)
			this.fill();
	}

	fill() {
		const all = this.state.snapshots.data || [];
		const words = this.filter.value.trim().toLowerCase();
		const seen = (s) => this.steps.checked || !isBuildStep(s) || s.id === this.wanted;
		const fits = (s) => !words || `${s.name} ${s.id} ${s.status} ${s.source}`.toLowerCase().includes(words);
		const shown = all.filter((s) => seen(s) && fits(s));
		if (all.length && !shown.length)
			this.table.setEmpty(words ? "No snapshot fits the filter." : "Only build steps; tick the box to see them.");
		setHidden(this.stepsBox, !all.some(isBuildStep));
		this.table.update(shown);
		this.lineage.update(this.steps.checked ? all : withoutSteps(all));
		if (this.wanted) {
			const s = all.find((x) => x.id === this.wanted || x.name === this.wanted);
			if (s && this.table.reveal(s.id, true))
				this.wanted = null;
		}
	}

	detail(box, row) {
		const error = el("p", { class: "error", hidden: true });
		box.append(error);
		const set = facts(box);
		const manifest = jsonBlock(box, "Manifest"), config = jsonBlock(box, "Image configuration");
		const build = el("a", { href: "#builds", class: "button" }, "Build log");
		const pin = button("", () => this.act(row, "PATCH", { pinned: !row.item.pinned },
			row.item.pinned ? "is no longer pinned" : "is pinned"));
		const remove = button("Delete", () => this.remove(row), { class: "danger" });
		box.append(el("div", { class: "actions left" }, button("Rename", () => this.rename(row)), pin,
			button("Lifetime", () => this.lifetime(row)), build, remove));
		const changes = el("div");
		box.append(changes);
		const diff = diffSection(changes, "Changes since its parent", () =>
			`/api/snapshots/${enc(row.item.parent)}/diff/${enc(row.item.id)}`);
		return {
			update: (s) => {
				const parent = (this.state.snapshots.data || []).find((x) => x.id === s.parent);
				setText(error, s.error || "");
				setHidden(error, !s.error);
				set([["Source", s.source], ["Files", count(s.fileCount)], ["Shared", s.root ? bytes(shared(s)) : ""],
					["Parent", s.parent ? parent ? label(parent) : `${shortId(s.parent)}, deleted` : "none"],
					["Created", when(s.createdAt)], ["Last used", when(s.lastUsedAt)],
					["Lifetime", s.ttl ? `removed when unused for ${seconds(s.ttl)}` : "until deleted"],
					["Mount", shortId(s.mountID)], ["Build", shortId(s.buildID)],
					["Id", s.id, true], ["Tree root", s.root, true], ["Content hash", s.contentHash, true]]);
				manifest(s.manifest);
				config(s.config);
				setText(pin, s.pinned ? "Unpin" : "Pin");
				setHidden(build, !s.buildID);
				if (s.buildID)
					build.href = `#builds/${enc(s.buildID)}`;
				remove.disabled = Boolean(s.pinned);
				remove.title = s.pinned ? "A pinned snapshot cannot be deleted" : "";
				setHidden(changes, !(s.root && parent && parent.root));
			},
			close: () => diff.close(),
		};
	}

	async act(row, method, body, done) {
		const name = label(row.item);
		try {
			await call(method, `/api/snapshots/${enc(row.item.id)}`, body);
			toast(`${name} ${done}.`);
		} catch (e) {
			toast(`${name}: ${e.message}`, true);
		}
		this.ctx.refresh("snapshots");
	}

	async rename(row) {
		const taken = new Set((this.state.snapshots.data || []).map((s) => s.name));
		const was = row.item.name;
		const name = await prompt({
			title: was ? `Rename ${was}` : "Give it a name", label: "Name", value: was, verb: "Rename",
			hint: "Letters, digits, and . _ - inside.",
			check: (s) => s === was ? "" : !NAME.test(s) ? "1 to 128 of A-Z a-z 0-9 . _ -, the first a letter or digit." :
				taken.has(s) ? "Another snapshot has that name." : "",
		});
		if (name !== null && name !== was)
			await this.act(row, "PATCH", { name }, `is now ${name}`);
	}

	async lifetime(row) {
		const hours = await prompt({
			title: `Lifetime of ${label(row.item)}`, label: "Hours without use", verb: "Set",
			value: row.item.ttl ? String(row.item.ttl / 3600) : "",
			hint: "A collection removes it once it was unused for so long. Empty: never.",
			check: (s) => s.trim() === "" || (Number(s) >= 0 && Number(s) < 1e6) ? "" : "A number of hours, or nothing.",
		});
		if (hours !== null)
			await this.act(row, "PATCH", { ttl: Math.round(Number(hours) * 3600) }, "has a new lifetime");
	}

	async remove(row) {
		const s = row.item;
		const children = (this.state.snapshots.data || []).filter((x) => x.parent === s.id).length;
		const sure = await confirm({
			title: `Delete ${label(s)}?`, verb: "Delete", danger: true,
			text: "It cannot be brought back. Mounts of it go on, and its space is freed by the next collection." +
				(children ? ` ${children} made from it stay${children === 1 ? "s" : ""}.` : ""),
		});
		if (sure)
			await this.act(row, "DELETE", undefined, "is deleted");
	}
}

// A heading that opens; returns what sets the object (hidden where there is none).
export function jsonBlock(box, title) {
	const pre = el("pre", { tabindex: "0", "aria-label": title });
	const node = el("details", { class: "json" }, el("summary", null, title), pre);
	box.append(node);
	return (object) => {
		const some = object !== null && object !== undefined;
		setHidden(node, !some);
		setText(pre, some ? JSON.stringify(object, null, 2) : "");
	};
}
