// dialogs.js - questions, as native modal dialogs: Escape closes them, the focus stays
// inside and goes back to where it was.

import { el, button, uid, setText } from "./dom.js";

function open(dialog) {
	const before = document.activeElement;
	document.body.append(dialog);
	dialog.showModal();
	return new Promise((resolve) => {
		dialog.addEventListener("close", () => {
			dialog.remove();
			if (before && before.isConnected)
				before.focus();
			resolve(dialog.returnValue);
		});
	});
}

// { title, text, verb, danger } -> whether it was confirmed. Something that cannot be
// undone has "Keep" focused.
export async function confirm({ title, text, verb, danger }) {
	const heading = uid("dialog"), what = uid("dialog");
	const dialog = el("dialog", { "aria-labelledby": heading, "aria-describedby": what,
		role: danger ? "alertdialog" : null });
	const no = button("Cancel", () => dialog.close(""), { autofocus: true });
	const yes = button(verb, () => dialog.close("yes"), { class: danger ? "danger" : "primary" });
	dialog.append(el("h2", { id: heading }, title), el("p", { id: what }, text),
		el("div", { class: "actions" }, no, yes));
	return await open(dialog) === "yes";
}

// { title, label, value, verb, hint, type, check } -> text, or null. check(text) -> why not, or "".
export async function prompt({ title, label, value, verb, hint, type, check, required }) {
	const heading = uid("dialog"), input = uid("input"), why = uid("why");
	const field = el("input", { id: input, type: type || "text", value: value || "",
		autocomplete: "off", autocapitalize: "off", spellcheck: "false", autofocus: true,
		"aria-describedby": why });
	const message = el("p", { id: why, class: "hint", "aria-live": "polite" }, hint || "");
	const dialog = el("dialog", { "aria-labelledby": heading });
	let answer = null;
	const form = el("form", { on: { submit: (e) => {
		e.preventDefault();
		const wrong = check ? check(field.value) : "";
		field.setAttribute("aria-invalid", wrong ? "true" : "false");
		setText(message, wrong || hint || "");
		message.classList.toggle("bad", Boolean(wrong));
		if (wrong) {
			field.focus();
			return;
		}
		answer = field.value;
		dialog.close("yes");
	} } },
	el("h2", { id: heading }, title),
	el("label", { for: input }, label), field, message,
	el("div", { class: "actions" },
		required ? null : button("Cancel", () => dialog.close("")),
		el("button", { type: "submit", class: "primary" }, verb)));
	dialog.append(form);
	if (required)
		dialog.addEventListener("cancel", (e) => e.preventDefault());
	const done = open(dialog);
	field.select();
	await done;
	return answer;
}

export async function askKey(wasWrong) {
	for (;;) {
		const key = await prompt({
			title: "API key", label: "Key", type: "password", verb: "Connect", required: true,
			hint: wasWrong ? "The daemon does not accept that key." :
				"The daemon wants its API key, or the token that `varve dashboard` prints. " +
				"It is kept in this tab until you close it.",
			check: (s) => s.trim() ? "" : "Enter the key.",
		});
		if (key)
			return key.trim();
		await new Promise((r) => setTimeout(r, 100));
	}
}
