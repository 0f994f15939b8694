// store.js - the store's figures, over time too, and the collection of garbage.

import { el, button, facts, setText, setAttr, setHidden, uid } from "./dom.js";
import { bytes, count, ratio } from "./format.js";
import { stream } from "./api.js";
import { Plot } from "./plot.js";

const RANGES = [["Hour", 3600], ["Day", 86400], ["Week", 7 * 86400], ["90 days", 90 * 86400], ["All", 0]];

export class StoreView {
	constructor(ctx) {
		this.ctx = ctx;
		this.range = 86400;
		this.note = el("p", { class: "note", role: "status" });
		this.figures = el("div", { class: "figures" });
		this.set = facts(this.figures);
		this.ranges = RANGES.map(([name, s]) => button(name, () => this.choose(s),
			{ "aria-pressed": String(s === this.range) }));
		this.plot = new Plot("Bytes of the store", [
			{ id: "logical", label: "Logical", title: "Sum of the snapshots' sizes" },
			{ id: "unique", label: "Unique", title: "Distinct data, before compression" },
			{ id: "stored", label: "Stored", title: "Files of the store on disk" },
		]);
		this.noHistory = el("p", { class: "hint", hidden: true }, "This daemon keeps no history.");
		this.gc = button("Collect garbage", () => this.collect(), { id: "gc" });
		this.bar = el("progress", { hidden: true, "aria-label": "Collection" });
		this.gcState = el("p", { role: "status", class: "hint", id: "gc-state" },
			"Frees what no snapshot, mount or build uses. Everything goes on meanwhile.");
		const head = uid("h"), over = uid("h"), space = uid("h");
		this.node = el("section", { "aria-labelledby": head },
			el("div", { class: "bar" }, el("h1", { id: head }, "Store")), this.note, this.figures,
			el("section", { "aria-labelledby": over, class: "block" },
				el("div", { class: "bar" }, el("h2", { id: over }, "Bytes over time"),
					el("div", { class: "seg", role: "group", "aria-label": "Span" }, ...this.ranges)),
				this.plot.node, this.noHistory),
			el("section", { "aria-labelledby": space, class: "block" }, el("h2", { id: space }, "Space"),
				el("div", { class: "line gc" }, this.gc, this.bar, this.gcState)));
	}

	choose(s) {
		this.range = s;
		this.ranges.forEach((b, i) => setAttr(b, "aria-pressed", String(RANGES[i][1] === s)));
		this.ctx.setRange(s);
	}

	show() {
		this.ctx.setRange(this.range);
		this.ctx.refresh("stats");
	}

	update(state) {
		const s = state.stats.data, h = state.history;
		setText(this.note, state.stats.absent ? "This daemon has no figures." : state.stats.error || "");
		if (s)
			this.set([["Logical", bytes(s.logicalBytes)], ["Unique", bytes(s.uniqueBytes)], ["Stored", bytes(s.storedBytes)],
				["Deduplication", ratio(s.logicalBytes, s.uniqueBytes)], ["Compression", ratio(s.uniqueBytes, s.storedBytes)],
				["Overall", ratio(s.logicalBytes, s.storedBytes)], ["Snapshots", count(s.snapshotCount)],
				["Mounts", s.mounts ? count(s.mounts.attached) + (s.mounts.detached ? `, ${count(s.mounts.detached)} off` : "") : ""],
				["Chunks", count(s.chunkCount)], ["Tree nodes", count(s.nodeCount)], ["Node cache", bytes(s.nodeCacheBytes)],
				["File requests", count(s.fuseRequests)]]);
		setHidden(this.noHistory, !h.absent);
		setHidden(this.plot.node, h.absent);
		if (h.data)
			this.draw(h.data, s, h.range, state.stats.at || h.at);
	}

	draw(history, now, range, to) {
		const samples = history.map((x) => ({ t: Date.parse(x.time), logical: x.logicalBytes, unique: x.uniqueBytes, stored: x.storedBytes }))
			.filter((x) => x.t < to);
		if (now)
			samples.push({ t: to, logical: now.logicalBytes, unique: now.uniqueBytes, stored: now.storedBytes });
		const first = samples.length ? samples[0].t : to;
		this.plot.update(samples, range ? to - range * 1000 : Math.min(first, to - 3600000), to);
	}

	async collect() {
		setHidden(this.bar, false);
		this.gc.disabled = true;
		this.bar.removeAttribute("value");
		setText(this.gcState, "Collecting");
		try {
			const r = await stream("POST", "/api/gc", {}, (type, e) => type === "progress" && this.progress(e));
			setText(this.gcState, r ? `Freed ${bytes(r.removedBytes)}: ${count(r.removedChunks)} chunks and ` +
				`${count(r.removedNodes)} nodes; ${count(r.expiredSnapshots)} expired snapshots.` : "Done.");
		} catch (e) {
			setText(this.gcState, `It failed: ${e.message}`);
		}
		setHidden(this.bar, true);
		this.gc.disabled = false;
		this.ctx.refresh("stats", "snapshots", "history");
	}

	progress(p) {
		const [done, total] = p.totalBytes ? [p.doneBytes, p.totalBytes] : [p.doneItems, p.totalItems];
		if (total > 0) {
			this.bar.max = total;
			this.bar.value = Math.min(done, total);
		} else {
			this.bar.removeAttribute("value");
		}
		setText(this.gcState, `${p.phase || "Collecting"}: ${total > 0 ? `${count(p.doneItems)}${p.totalItems ? ` of ${count(p.totalItems)}` : ""}` :
			count(p.doneItems)}`);
	}
}
