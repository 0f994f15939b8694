// diff.js - what has changed, asked for with a button, since it can be long to find.

import { el, button, setText, setHidden, uid } from "./dom.js";
import { get } from "./api.js";
import { count } from "./format.js";

const SHOWN_MAX = 2000;
const MARKS = { added: "+", removed: "−", modified: "~", meta: "m", renamed: "→" };

// A section with the button `verb`; path() names the call.
export function diffSection(container, verb, path) {
	const id = uid("diff");
	const list = el("ul", { class: "changes", id, tabindex: "0", hidden: true, "aria-label": "Changes" });
	const note = el("p", { class: "hint", role: "status" });
	const ask = button(verb, run, { "aria-controls": id });
	let abort = null;
	container.append(el("div", { class: "diff" }, el("p", { class: "line" }, ask, note), list));

	async function run() {
		if (abort)
			abort.abort();
		const mine = abort = new AbortController();
		setText(note, "looking");
		try {
			show(await get(path(), mine.signal));
		} catch (e) {
			if (e.name === "AbortError")
				return;
			setHidden(list, true);
			setText(note, e.message);
		}
	}

	function show(entries) {
		const rows = entries.slice(0, SHOWN_MAX).map((e) => {
			const change = e.from || e.renamed ? "renamed" : String(e.change);
			const from = typeof e.from === "string" ? `${e.from} → ` : "";
			return el("li", { class: `ch-${change in MARKS ? change : "other"}` },
				el("span", { class: "mark", "aria-hidden": "true" }, MARKS[change] || "?"),
				el("span", { class: "unseen" }, `${change} `),
				el("span", null, from + String(e.path)));
		});
		list.replaceChildren(...rows);
		setHidden(list, rows.length === 0);
		const kinds = {};
		for (const e of entries)
			kinds[e.change] = (kinds[e.change] || 0) + 1;
		const words = Object.entries(kinds).map(([k, n]) => `${count(n)} ${k}`).join(", ");
		setText(note, entries.length === 0 ? "nothing has changed" : entries.length > SHOWN_MAX ?
			`${words}; the first ${count(SHOWN_MAX)} are shown` : words);
	}

	return { close: () => abort && abort.abort() };
}
