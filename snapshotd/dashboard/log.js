// log.js - a build's log: lines are added at the end, and the view follows them unless
// the reader has scrolled away. Old lines go, so that any length of output is bearable.

import { el, button, setText, setHidden, uid } from "./dom.js";

const LINES_MAX = 5000;

export class Log {
	// quiet: the heading is for those who do not see the page.
	constructor(title, quiet) {
		const heading = uid("log");
		this.lines = el("div", { class: "lines", role: "log", "aria-live": "polite",
			"aria-labelledby": heading, tabindex: "0", on: { scroll: () => this.scrolled() } });
		this.note = el("p", { class: "logend" });
		this.follow = true;
		this.down = button("Jump to the end", () => this.toEnd(), { class: "quiet jump", hidden: true });
		this.node = el("div", { class: "log" },
			el("div", { class: "loghead" }, el("h3", { id: heading, class: quiet ? "unseen" : null }, title), this.down),
			this.lines, this.note);
		this.count = 0;
		this.pending = [];
		this.frame = 0;
		this.step = null;
	}

	clear() {
		this.pending = [];
		this.lines.replaceChildren();
		this.count = 0;
		this.step = null;
		this.end("");
	}

	// An event build_log; anything else that has a message.
	event(e) {
		const text = typeof e.message === "string" ? e.message : "";
		const step = e.step ? String(e.step) : "";
		const kind = e.stream === "stderr" ? "err" : e.stream === "stdout" ? "out" : "say";
		const heads = step !== this.step;
		this.step = step;
		text.replace(/\n$/, "").split("\n").forEach((line, i) => {
			this.pending.push([heads && i === 0 && step ? step : "", line, kind]);
		});
		this.flushSoon();
	}

	say(text, cls) {
		this.pending.push(["", text, cls || "say"]);
		this.flushSoon();
	}

	end(text, cls) {
		setText(this.note, text);
		this.note.className = `logend ${cls || ""}`;
	}

	flushSoon() {
		if (!this.frame)
			this.frame = setTimeout(() => this.flush(), 30);
	}

	// All of what has come, in one change of the page.
	flush() {
		const add = document.createDocumentFragment();
		this.frame = 0;
		for (const [step, text, cls] of this.pending.slice(-LINES_MAX))
			add.append(el("div", { class: cls }, el("span", { class: "step", "aria-hidden": "true" }, step),
				el("span", { class: "text" }, text)));
		this.count += Math.min(this.pending.length, LINES_MAX);
		this.pending = [];
		this.lines.append(add);
		for (; this.count > LINES_MAX; this.count--)
			this.lines.firstChild.remove();
		if (this.follow)
			this.toEnd();
	}

	scrolled() {
		const l = this.lines;
		this.follow = l.scrollHeight - l.scrollTop - l.clientHeight < 8;
		setHidden(this.down, this.follow);
	}

	toEnd() {
		this.lines.scrollTop = this.lines.scrollHeight;
		this.follow = true;
		setHidden(this.down, true);
	}
}
