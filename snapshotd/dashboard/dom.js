// dom.js - elements and their changes. Text is only ever set as text; what has not
// changed is not touched, so that a refresh moves nothing, keeps the focus and the
// selection, and says nothing to a screen reader.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attrs, children) {
	for (const [name, value] of Object.entries(attrs || {})) {
		if (value === null || value === undefined || value === false)
			continue;
		if (name === "on") {
			for (const [type, fn] of Object.entries(value))
				node.addEventListener(type, fn);
		} else {
			node.setAttribute(name, value === true ? "" : String(value));
		}
	}
	node.append(...children.filter((c) => c !== null && c !== undefined));
	return node;
}

export function el(tag, attrs, ...children) {
	return fill(document.createElement(tag), attrs, children);
}

export function svg(tag, attrs, ...children) {
	return fill(document.createElementNS(SVG, tag), attrs, children);
}

export function button(text, onclick, attrs) {
	return el("button", { type: "button", ...attrs, on: { click: onclick } }, text);
}

export function setText(node, text) {
	const s = text === null || text === undefined ? "" : String(text);
	if (node.textContent !== s)
		node.textContent = s;
}

export function setAttr(node, name, value) {
	if (value === null || value === undefined || value === false) {
		if (node.hasAttribute(name))
			node.removeAttribute(name);
	} else {
		const s = value === true ? "" : String(value);
		if (node.getAttribute(name) !== s)
			node.setAttribute(name, s);
	}
}

export function setHidden(node, hidden) {
	if (node.hidden !== hidden)
		node.hidden = hidden;
}

let ids = 0;
export function uid(prefix) {
	return `${prefix}-${++ids}`;
}

// A list of terms: returns what sets them from [[term, text, long?], ...]; empty texts are
// left out, long ones have a line of their own.
export function facts(container) {
	const dl = el("dl", { class: "facts" });
	const rows = new Map();
	container.append(dl);
	return (pairs) => {
		for (const [term, text, long] of pairs) {
			let row = rows.get(term);
			if (!row) {
				row = el("div", { class: long ? "long" : null }, el("dt", null, term), el("dd"));
				rows.set(term, row);
				dl.append(row);
			}
			const s = text === null || text === undefined ? "" : String(text);
			setHidden(row, s === "");
			setText(row.lastChild, s);
		}
	};
}

// A message that stays some seconds; failures until the next one.
export function toast(text, isError) {
	const box = document.getElementById("toasts");
	const note = el("p", { class: isError ? "toast bad" : "toast" }, el("span", null, text));
	const drop = () => note.remove();
	note.append(button("Dismiss", drop, { class: "quiet" }));
	box.replaceChildren(note);
	if (!isError)
		setTimeout(drop, 6000);
}
