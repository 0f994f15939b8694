// new.js - build a snapshot from a manifest that is pasted in, and watch it.

import { el, button, setText, setHidden, uid, toast } from "./dom.js";
import { call, stream, get, enc } from "./api.js";
import { duration } from "./format.js";
import { confirm } from "./dialogs.js";
import { Log } from "./log.js";

const EXAMPLE = JSON.stringify({ base: "base", steps: [
	{ type: "apt_install", args: { packages: ["ripgrep"] } },
	{ type: "run", args: { commands: ["rg --version > /root/version"] } },
	{ type: "env", args: { vars: { GREETING: "hello" } } },
	{ type: "workdir", args: { path: "/srv" } },
] }, null, 2);

export class NewView {
	constructor(ctx) {
		this.ctx = ctx;
		this.buildId = null;
		this.running = false;
		this.name = el("input", { id: "new-name", required: true, autocomplete: "off", autocapitalize: "off",
			spellcheck: "false", pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]{0,127}", title: "Letters, digits, and . _ - inside" });
		this.manifest = el("textarea", { id: "new-manifest", rows: 16, required: true, spellcheck: "false",
			"aria-describedby": "new-why", autocapitalize: "off" });
		this.why = el("p", { id: "new-why", class: "hint", "aria-live": "polite" });
		this.force = el("input", { type: "checkbox", id: "new-force" });
		this.keep = el("input", { type: "checkbox", id: "new-keep" });
		this.submit = el("button", { type: "submit", class: "primary", id: "new-build" }, "Build");
		this.state = el("p", { id: "new-state", role: "status", class: "state" }, "Build log");
		this.cancel = button("Cancel the build", () => this.stop(), { hidden: true, class: "danger small" });
		this.open = el("a", { class: "button small", hidden: true, href: "#snapshots" }, "Show the snapshot");
		this.log = new Log("Build log", true);
		const head = uid("h");
		this.node = el("section", { "aria-labelledby": head },
			el("div", { class: "bar" }, el("h1", { id: head }, "Build a snapshot"),
				el("a", { href: "#snapshots", class: "button" }, "Back to the snapshots")),
			el("div", { class: "split even" },
				el("form", { class: "form", on: { submit: (e) => this.send(e) } },
					el("label", { for: "new-name" }, "Name"), this.name,
					el("label", { for: "new-manifest" }, "Manifest (JSON)"), this.manifest, this.why,
					el("label", { class: "check", for: "new-force" }, this.force, " Build even what is cached"),
					el("label", { class: "check", for: "new-keep" }, this.keep, " Keep the mount if it fails"),
					el("div", { class: "actions left" }, this.submit,
						button("Fill in an example", () => this.example()))),
				el("div", { class: "watch" },
					el("div", { class: "line watchhead" }, this.state, this.open, this.cancel), this.log.node)));
	}

	update() {}

	show() {
		if (!this.running && !this.name.value)
			this.name.focus({ preventScroll: true });
	}

	async example() {
		const own = this.manifest.value.trim();
		if (own && own !== EXAMPLE && !await confirm({ title: "Replace the manifest?", verb: "Replace",
			text: "What is in the field is lost." }))
			return;
		this.manifest.value = EXAMPLE;
		this.check();
	}

	// The manifest as an object, or null with the reason shown.
	check() {
		let object = null, wrong = "";
		try {
			object = JSON.parse(this.manifest.value);
			if (object === null || typeof object !== "object" || Array.isArray(object))
				wrong = "A manifest is an object: {\"base\": ..., \"steps\": [...]}.";
		} catch (e) {
			wrong = `This is no JSON: ${e.message}`;
		}
		setText(this.why, wrong);
		this.why.classList.toggle("bad", Boolean(wrong));
		this.manifest.setAttribute("aria-invalid", wrong ? "true" : "false");
		return wrong ? null : object;
	}

	async send(event) {
		event.preventDefault();
		const image = this.check();
		if (this.running)
			return;
		if (!image) {
			this.manifest.focus();
			return;
		}
		const name = this.name.value.trim();
		const query = [this.force.checked ? "force=true" : "", this.keep.checked ? "keepFailed=true" : ""]
			.filter(Boolean).join("&");
		this.began(name);
		try {
			const s = await stream("POST", `/api/snapshots${query ? `?${query}` : ""}`, { name, image },
				(type, e) => this.event(type, e));
			this.ended(s && s.status === "failed" ? { error: s.error || "it failed" } : { id: s && s.id });
		} catch (e) {
			this.ended({ error: e.absent ? "This daemon cannot build images." : e.message, step: e.step });
		}
	}

	began(name) {
		this.running = true;
		this.buildId = null;
		this.current = name;
		this.since = Date.now();
		this.last = "";
		this.submit.disabled = true;
		this.log.clear();
		setHidden(this.open, true);
		setHidden(this.cancel, true);
		this.timer = setInterval(() => this.tick(), 1000);
		this.tick();
		this.ctx.refresh("snapshots", "builds");
	}

	tick() {
		if (!this.running)
			return;
		setText(this.state, `Building ${this.current}${this.last ? `, ${this.last}` : ""}`);
		this.state.className = "state busy";
		if (!this.buildId && Date.now() - this.since > 500)
			this.findBuild();
	}

	// Which build it is, so that it can be cancelled.
	async findBuild() {
		if (this.finding)
			return;
		this.finding = true;
		try {
			const s = await get(`/api/snapshots/${enc(this.current)}`);
			if (this.running && s.status === "building" && s.buildID) {
				this.buildId = s.buildID;
				setHidden(this.cancel, false);
			}
		} catch {
			// not there yet, or an older daemon: then it cannot be cancelled here
		}
		this.finding = false;
	}

	event(type, e) {
		if (type !== "build_log")
			return;
		if (e.step !== undefined && e.step !== null && String(e.step) !== "")
			this.last = `step ${e.step}${e.type ? ` (${e.type})` : ""}`;
		this.log.event(e);
	}

	ended({ id, error, step }) {
		const took = duration(Date.now() - this.since);
		this.running = false;
		clearInterval(this.timer);
		this.submit.disabled = false;
		setHidden(this.cancel, true);
		if (error) {
			const at = step !== undefined && step !== null && step !== 0 && !/^step /.test(error) ? `Step ${step}: ` : "";
			setText(this.state, `${this.current} failed after ${took}`);
			this.state.className = "state bad";
			this.log.end(`${at}${error}`, "bad");
		} else {
			setText(this.state, `${this.current} is ready, after ${took}`);
			this.state.className = "state good";
			this.log.end(this.log.lines.childElementCount || this.log.pending.length ? "Done." :
				"It was cached: nothing had to be built.", "good");
			this.open.href = `#snapshots/${enc(id || this.current)}`;
			setHidden(this.open, false);
		}
		this.ctx.refresh("snapshots", "builds", "stats");
	}

	async stop() {
		if (!await confirm({ title: `Cancel the build of ${this.current}?`, verb: "Cancel the build", danger: true,
			text: "Whoever else waits for the same image is told so too. Steps that are done stay cached." }))
			return;
		try {
			await call("DELETE", `/api/builds/${enc(this.buildId)}`);
		} catch (e) {
			toast(e.message, true);
		}
	}
}
