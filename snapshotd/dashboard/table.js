// table.js - a table that is updated in place: rows are kept by key, cells change only
// where their text does, columns sort, and a row may open to show more.

import { el, button, setText, setAttr, setHidden, uid } from "./dom.js";

// Columns: { label, title?, text(item), tip?(item), num?, wide?: hidden on narrow screens,
// sort?(item): value, build?(td, row): function(item), cls? }.
// The first column is the row's heading; with `detail` it is a button that opens the row.
export class Table {
	constructor({ caption, columns, key, empty, detail, onToggle, rowClass }) {
		Object.assign(this, { columns, key, detail, onToggle, rowClass });
		this.rows = new Map();
		this.items = [];
		this.sortBy = null; // { column, down }
		this.heads = columns.map((c) => this.head(c));
		this.body = el("tbody");
		this.empty = el("td", { colspan: columns.length, class: "empty" }, empty);
		this.emptyRow = el("tr", { hidden: true }, this.empty);
		this.body.append(this.emptyRow);
		const table = el("table", null, el("caption", { class: "unseen" }, caption),
			el("thead", null, el("tr", null, ...this.heads)), this.body);
		this.node = el("div", { class: "scroll", tabindex: "0", role: "region",
			"aria-label": caption }, table);
	}

	head(c) {
		const th = el("th", { scope: "col", class: cellClass(c), title: c.title });
		if (!c.sort) {
			th.append(c.unseen ? el("span", { class: "unseen" }, c.label) : c.label);
			return th;
		}
		th.append(button(c.label, () => {
			const same = this.sortBy && this.sortBy.column === c;
			this.sortBy = { column: c, down: same ? !this.sortBy.down : Boolean(c.num) };
			this.heads.forEach((h, i) => setAttr(h, "aria-sort", this.columns[i] === c ?
				this.sortBy.down ? "descending" : "ascending" : null));
			this.place();
		}, { class: "sort" }));
		return th;
	}

	update(items) {
		const seen = new Set();
		this.items = items;
		for (const item of items) {
			const k = this.key(item);
			seen.add(k);
			let row = this.rows.get(k);
			if (!row) {
				row = this.make(k);
				this.rows.set(k, row);
			}
			this.refresh(row, item);
		}
		for (const [k, row] of this.rows) {
			if (!seen.has(k)) {
				this.close(row);
				row.tr.remove();
				this.rows.delete(k);
			}
		}
		this.place();
		setHidden(this.emptyRow, items.length > 0);
	}

	setEmpty(text) {
		setText(this.empty, text);
	}

	make(k) {
		const row = { key: k, item: null, cells: [], open: false };
		row.tr = el("tr");
		this.columns.forEach((c, i) => {
			const td = el(i === 0 ? "th" : "td", { class: cellClass(c), scope: i === 0 ? "row" : null });
			let fill;
			if (i === 0 && this.detail) {
				row.toggle = button("", () => this.toggle(row), { class: "toggle",
					"aria-expanded": "false" });
				td.append(row.toggle);
				fill = (item) => setText(row.toggle, c.text(item));
			} else if (c.build) {
				fill = c.build(td, row);
			} else {
				fill = (item) => setText(td, c.text(item));
			}
			row.cells.push({ c, td, fill });
			row.tr.append(td);
		});
		return row;
	}

	refresh(row, item) {
		row.item = item;
		for (const { c, td, fill } of row.cells) {
			fill(item);
			if (c.tip)
				setAttr(td, "title", c.tip(item));
		}
		if (this.rowClass)
			setAttr(row.tr, "class", [this.rowClass(item), row.open ? "open" : ""].join(" ").trim() || null);
		else
			setAttr(row.tr, "class", row.open ? "open" : null);
		if (row.more)
			row.more.update(item);
	}

	// Put rows in order, moving only those that are not in place.
	place() {
		let items = this.items;
		if (this.sortBy) {
			const { column, down } = this.sortBy;
			items = items.map((item, i) => [column.sort(item), i, item]).sort((a, b) => {
				const order = a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0;
				return (down ? -order : order) || a[1] - b[1];
			}).map((x) => x[2]);
		}
		let next = this.body.firstChild;
		const put = (node) => {
			if (next === node)
				next = node.nextSibling;
			else
				this.body.insertBefore(node, next);
		};
		for (const item of items) {
			const row = this.rows.get(this.key(item));
			put(row.tr);
			if (row.detailTr)
				put(row.detailTr);
		}
	}

	toggle(row, open = !row.open) {
		if (open === row.open)
			return;
		if (open) {
			const id = uid("detail");
			const box = el("div", { class: "detail" });
			row.detailTr = el("tr", { class: "more", id, on: { keydown: (e) => {
				if (e.key === "Escape" && !e.defaultPrevented) {
					this.toggle(row, false);
					row.toggle.focus();
				}
			} } }, el("td", { colspan: this.columns.length }, box));
			row.tr.after(row.detailTr);
			row.toggle.setAttribute("aria-controls", id);
			row.open = true;
			row.more = this.detail(box, row);
			this.refresh(row, row.item);
		} else {
			this.close(row);
			this.refresh(row, row.item);
		}
		row.toggle.setAttribute("aria-expanded", String(row.open));
		if (this.onToggle)
			this.onToggle(row);
	}

	close(row) {
		if (row.more && row.more.close)
			row.more.close();
		if (row.detailTr)
			row.detailTr.remove();
		row.more = row.detailTr = null;
		row.open = false;
	}

	closeAll(but) {
		for (const row of this.rows.values())
			if (row.open && row.key !== but)
				this.toggle(row, false);
	}

	// Open the row of a key and bring it into view.
	reveal(k, focus) {
		const row = this.rows.get(k);
		if (!row)
			return false;
		this.toggle(row, true);
		row.tr.scrollIntoView({ block: "nearest" });
		if (focus)
			row.toggle.focus();
		return true;
	}
}

function cellClass(c) {
	return [c.num ? "num" : "", c.wide ? `wide${c.wide === true ? "" : c.wide}` : "", c.cls || ""]
		.join(" ").trim() || null;
}
