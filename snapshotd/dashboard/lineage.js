// lineage.js - which snapshot came from which, as a picture. A node a line; the longest
// line of descent goes straight down, others branch off to the right above it. So lanes
// are only as many as branches are nested, and a name has room beside its node.

import { svg, el, setText } from "./dom.js";
import { bytes, isBuildStep, label } from "./format.js";

const ROW = 24, LANE = 14, LEFT = 10, TREE_GAP = 10, NODES_MAX = 1000;

// Without the steps of builds; what came from one comes from the nearest that is left. Pure.
export function withoutSteps(snapshots) {
	const byId = new Map(snapshots.map((s) => [s.id, s]));
	return snapshots.filter((s) => !isBuildStep(s)).map((s) => {
		let parent = s.parent;
		for (let n = 0; n < snapshots.length && byId.has(parent) && isBuildStep(byId.get(parent)); n++)
			parent = byId.get(parent).parent;
		return parent === s.parent ? s : { ...s, parent };
	});
}

// [{id, parent, createdAt, ...}] -> [{snapshot, lane, parent: index or -1, tree}] in drawing order. Pure.
export function layout(snapshots) {
	const byId = new Map(snapshots.map((s) => [s.id, { s, children: [], height: isBuildStep(s) ? 0 : 1, newest: s.createdAt || "" }]));
	const roots = [];
	for (const n of byId.values()) {
		const parent = n.s.parent && n.s.parent !== n.s.id ? byId.get(n.s.parent) : null;
		if (parent)
			parent.children.push(n);
		else
			roots.push(n);
	}
	// Parents before children, without recursion: a chain may be long.
	const order = [...roots];
	for (let i = 0; i < order.length; i++)
		order.push(...order[i].children);
	for (const n of order.slice().reverse()) {
		for (const c of n.children) {
			n.height = Math.max(n.height, c.height + (isBuildStep(n.s) ? 0 : 1));
			n.newest = c.newest > n.newest ? c.newest : n.newest;
		}
	}
	roots.sort((a, b) => a.newest < b.newest ? 1 : a.newest > b.newest ? -1 : 0);
	const out = [];
	roots.forEach((root, tree) => {
		const stack = [{ n: root, lane: 0, parent: -1 }];
		while (stack.length) {
			const { n, lane, parent } = stack.pop();
			const at = out.push({ snapshot: n.s, lane, parent, tree }) - 1;
			if (!n.children.length)
				continue;
			const older = n.children.slice().sort((a, b) => (a.s.createdAt || "") < (b.s.createdAt || "") ? -1 : 1);
			// Among equals, what the same mount went on to, else the newest.
			const rank = (c) => c.height * 2 + (c.s.mountID && c.s.mountID === n.s.mountID ? 1 : 0);
			const main = older.reduce((best, c) => rank(c) >= rank(best) ? c : best);
			// What is pushed first is drawn last.
			stack.push({ n: main, lane, parent: at });
			for (const c of older.slice().reverse())
				if (c !== main)
					stack.push({ n: c, lane: lane + 1, parent: at });
		}
	});
	return out;
}

function cut(text, room) {
	return text.length <= room ? text : `${text.slice(0, Math.max(1, room - 1))}…`;
}

export class Lineage {
	constructor() {
		this.picture = svg("svg", { class: "lineage", role: "group", "aria-label": "Lineage of the snapshots" });
		this.note = el("p", { class: "hint" });
		this.node = el("div", { class: "lineagebox" }, this.picture, this.note);
		this.snapshots = [];
		this.drawn = "";
		this.width = 0;
		new ResizeObserver(([entry]) => {
			const width = Math.floor(entry.contentRect.width);
			if (width !== this.width) {
				this.width = width;
				this.update(this.snapshots);
			}
		}).observe(this.node);
	}

	// Drawn anew only where it would look different.
	update(snapshots) {
		const sign = JSON.stringify([this.width, snapshots.map((s) =>
			[s.id, s.name, s.status, s.parent, s.pinned, s.sizeBytes])]);
		this.snapshots = snapshots;
		if (sign === this.drawn || !this.width)
			return;
		this.drawn = sign;
		this.draw(layout(snapshots));
	}

	draw(nodes) {
		const active = document.activeElement;
		const focused = this.picture.contains(active) ? active.getAttribute("href") : null;
		const shown = nodes.slice(0, NODES_MAX);
		const y = (n, i) => 14 + i * ROW + n.tree * TREE_GAP;
		const x = (n) => LEFT + n.lane * LANE;
		const edges = [], marks = [];
		shown.forEach((n, i) => {
			if (n.parent >= 0) {
				const p = shown[n.parent], px = x(p), py = y(p, n.parent), nx = x(n), ny = y(n, i);
				edges.push(svg("path", { class: "edge", d: px === nx ? `M${px} ${py}V${ny}` :
					`M${px} ${py}V${ny - 8}Q${px} ${ny} ${px + 8} ${ny}H${nx}` }));
			}
			marks.push(this.mark(n, x(n), y(n, i)));
		});
		const height = shown.length ? y(shown.at(-1), shown.length - 1) + 16 : 0;
		this.picture.setAttribute("width", this.width);
		this.picture.setAttribute("height", height);
		this.picture.setAttribute("viewBox", `0 0 ${this.width} ${height}`);
		this.picture.replaceChildren(...edges, ...marks);
		setText(this.note, nodes.length > shown.length ? `${shown.length} of ${nodes.length} are drawn` :
			nodes.length ? "" : "There are no snapshots.");
		if (focused)
			[...this.picture.querySelectorAll("a")].find((a) => a.getAttribute("href") === focused)?.focus();
	}

	mark({ snapshot: s }, x, y) {
		const size = s.status === "ready" && Number.isFinite(s.sizeBytes) ? bytes(s.sizeBytes) : String(s.status);
		const room = Math.floor((this.width - x - 14 - 74) / 7.2);
		const kind = ["ready", "building", "failed"].includes(s.status) ? s.status : "ready";
		const step = isBuildStep(s);
		return svg("a", { href: `#snapshots/${encodeURIComponent(s.id)}`, class: `node ${kind}${step ? " step" : ""}`,
			"aria-label": `${label(s)}, ${size}${s.pinned ? ", pinned" : ""}` },
		svg("title", null, `${label(s)}\n${s.id}`),
		svg("rect", { class: "hit", x: 0, y: y - ROW / 2, width: this.width, height: ROW }),
		s.pinned ? svg("circle", { class: "ring", cx: x, cy: y, r: 7 }) : null,
		svg("circle", { class: "dot", cx: x, cy: y, r: step ? 2.5 : 4 }),
		svg("text", { class: "name", x: x + 13, y: y + 4 }, cut(step ? `step ${label(s)}` : label(s), room)),
		svg("text", { class: "size", x: this.width - 4, y: y + 4 }, size));
	}
}
