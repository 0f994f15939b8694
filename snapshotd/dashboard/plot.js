// plot.js - bytes over time: lines in an SVG with axes in round binary units, and the
// values under the pointer or the arrow keys in words.

import { svg, el, button, setText, setAttr } from "./dom.js";
import { bytes, when } from "./format.js";

const HEIGHT = 260, TOP = 12, RIGHT = 12, BOTTOM = 26, LEFT = 74;
const MINUTE = 60000, HOUR = 60 * MINUTE, DAY = 24 * HOUR;
const TIME_STEPS = [MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR,
	3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 30 * DAY, 90 * DAY, 365 * DAY];

// Round values from 0 to at least max, at most n + 1 of them. Pure.
export function byteTicks(max, n = 5) {
	const least = Math.max(max, 1) / n;
	let step = 1;
	for (let unit = 1; ; unit *= 1024) {
		const m = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((k) => k * unit >= least);
		if (m) {
			step = m * unit;
			break;
		}
		if (1000 * unit >= least) {
			step = 1024 * unit;
			break;
		}
	}
	const out = [0];
	while (out.at(-1) < max)
		out.push(out.at(-1) + step);
	if (out.length === 1)
		out.push(step);
	return out;
}

// Round times between from and to in the zone offset (ms to add for local time). Pure.
export function timeTicks(from, to, n, offset = 0) {
	const step = TIME_STEPS.find((s) => (to - from) / s <= n) || TIME_STEPS.at(-1);
	const out = [];
	for (let t = Math.ceil((from + offset) / step) * step - offset; t <= to; t += step)
		out.push(t);
	return { step, ticks: out };
}

function timeLabel(t, step) {
	const d = new Date(t), p = (n) => String(n).padStart(2, "0");
	if (step >= DAY)
		return step >= 90 * DAY ? `${d.getFullYear()}-${p(d.getMonth() + 1)}` : `${p(d.getMonth() + 1)}-${p(d.getDate())}`;
	const midnight = d.getHours() === 0 && d.getMinutes() === 0;
	return midnight ? `${p(d.getMonth() + 1)}-${p(d.getDate())}` : `${p(d.getHours())}:${p(d.getMinutes())}`;
}

// series: [{ id, label, title }]; samples: [{ t, [id]: bytes }], in order of t.
export class Plot {
	constructor(title, series) {
		this.title = title;
		this.series = series.map((s) => ({ ...s, on: true }));
		this.samples = [];
		this.at = -1;
		this.width = 0;
		this.drawn = "";
		this.picture = svg("svg", { class: "plot", role: "img", tabindex: "0", height: HEIGHT, on: {
			pointermove: (e) => this.point(e), pointerleave: () => this.read(-1),
			keydown: (e) => this.keyed(e), blur: () => this.read(-1) } });
		this.readout = el("p", { class: "readout", role: "status" });
		const legend = el("div", { class: "legend", role: "group", "aria-label": "Lines" }, ...this.series.map((s) => {
			const b = button(s.label, () => {
				s.on = !s.on;
				setAttr(b, "aria-pressed", String(s.on));
				this.draw();
			}, { "aria-pressed": "true", class: `series ${s.id}`, title: s.title });
			return b;
		}));
		this.node = el("div", { class: "plotbox" }, legend, this.picture, this.readout);
		new ResizeObserver(([entry]) => {
			const width = Math.floor(entry.contentRect.width);
			if (width !== this.width) {
				this.width = width;
				this.draw();
			}
		}).observe(this.node);
	}

	update(samples, from, to) {
		const sign = JSON.stringify([samples, from, to]);
		if (sign === this.drawn)
			return;
		this.drawn = sign;
		this.samples = samples;
		this.from = from;
		this.to = to;
		this.draw();
	}

	x(t) {
		return LEFT + (t - this.from) / (this.to - this.from) * (this.width - LEFT - RIGHT);
	}
	y(v) {
		return HEIGHT - BOTTOM - v / this.max * (HEIGHT - TOP - BOTTOM);
	}

	draw() {
		if (!this.width || !(this.to > this.from))
			return;
		const on = this.series.filter((s) => s.on);
		const top = Math.max(1, ...on.flatMap((s) => this.samples.map((p) => p[s.id] || 0)));
		const values = byteTicks(top);
		this.max = values.at(-1);
		const right = this.width - RIGHT, bottom = HEIGHT - BOTTOM;
		const parts = [];
		for (const v of values)
			parts.push(svg("path", { class: v ? "grid" : "axis", d: `M${LEFT} ${this.y(v)}H${right}` }),
				svg("text", { class: "tick end", x: LEFT - 8, y: this.y(v) + 4 }, v ? bytes(v).replace(/\.0+ /, " ") : "0"));
		const offset = -new Date(this.to).getTimezoneOffset() * MINUTE;
		const { step, ticks } = timeTicks(this.from, this.to, Math.max(2, Math.floor((right - LEFT) / 80)), offset);
		for (const t of ticks)
			parts.push(svg("path", { class: "axis", d: `M${this.x(t)} ${bottom}v5` }),
				svg("text", { class: "tick mid", x: this.x(t), y: bottom + 18 }, timeLabel(t, step)));
		for (const s of on)
			parts.push(svg("path", { class: `line ${s.id}`, d: this.path(s.id) }));
		this.cursor = svg("g", { class: "cursor" });
		setAttr(this.picture, "width", this.width);
		setAttr(this.picture, "viewBox", `0 0 ${this.width} ${HEIGHT}`);
		setAttr(this.picture, "aria-label", this.words(on));
		this.picture.replaceChildren(...parts, this.cursor);
		this.read(Math.min(this.at, this.samples.length - 1));
	}

	// A line is broken where the daemon did not run.
	path(id) {
		const s = this.samples;
		const gaps = s.slice(1).map((p, i) => p.t - s[i].t).sort((a, b) => a - b);
		const usual = gaps.length ? gaps[Math.floor(gaps.length / 2)] : 0;
		let d = "";
		s.forEach((p, i) => {
			const gap = i > 0 && p.t - s[i - 1].t > Math.max(5 * usual, 10 * MINUTE);
			const to = `${this.x(p.t).toFixed(1)} ${this.y(p[id] || 0).toFixed(1)}`;
			d += i === 0 || gap ? `M${to}h0.1` : `L${to}`;
		});
		return d;
	}

	words(on) {
		const last = this.samples.at(-1);
		if (!last)
			return `${this.title}: nothing is known yet`;
		return `${this.title}, from ${when(this.from)} to ${when(this.to)}. ` +
			on.map((s) => `${s.label} ${bytes(last[s.id])}`).join(", ") +
			". The left and right arrow keys read values.";
	}

	point(e) {
		const t = this.from + (e.offsetX - LEFT) / (this.width - LEFT - RIGHT) * (this.to - this.from);
		let best = -1;
		this.samples.forEach((p, i) => {
			if (best < 0 || Math.abs(p.t - t) < Math.abs(this.samples[best].t - t))
				best = i;
		});
		this.read(best);
	}

	keyed(e) {
		const last = this.samples.length - 1;
		const to = { ArrowLeft: this.at < 0 ? last : Math.max(0, this.at - 1),
			ArrowRight: this.at < 0 ? 0 : Math.min(last, this.at + 1), Home: 0, End: last, Escape: -1 }[e.key];
		if (to === undefined)
			return;
		e.preventDefault();
		this.read(to);
	}

	read(i) {
		this.at = i;
		const p = this.samples[i], last = this.samples.at(-1), on = this.series.filter((s) => s.on);
		const say = (q) => on.map((s) => `${s.label} ${bytes(q[s.id])}`).join(" · ");
		if (this.cursor)
			this.cursor.replaceChildren(...p ? [
				svg("path", { d: `M${this.x(p.t)} ${TOP}V${HEIGHT - BOTTOM}` }),
				...on.map((s) => svg("circle", { class: s.id, cx: this.x(p.t), cy: this.y(p[s.id] || 0), r: 3.5 })),
			] : []);
		setText(this.readout, p ? `${when(p.t)}: ${say(p)}` : last ? `Now: ${say(last)}` : "Nothing is known yet.");
	}
}
