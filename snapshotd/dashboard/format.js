// format.js - numbers, sizes and times as text. Pure.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

export function bytes(n) {
	if (!Number.isFinite(n))
		return "";
	let unit = 0;
	while (Math.abs(n) >= 1024 && unit < UNITS.length - 1) {
		n /= 1024;
		unit++;
	}
	// Three digits that count: 1.25, 12.5, 125.
	const digits = unit === 0 || Math.abs(n) >= 99.95 ? 0 : Math.abs(n) >= 9.995 ? 1 : 2;
	return `${n.toFixed(digits)} ${UNITS[unit]}`;
}

export function count(n) {
	return Number.isFinite(n) ? String(n).replace(/\B(?=(\d{3})+$)/g, "\u202f") : "";
}

export function ratio(a, b) {
	return a > 0 && b > 0 ? `${(a / b).toFixed(a / b < 10 ? 2 : 1)}×` : "–";
}

// A span of milliseconds: "0.4 s", "12 s", "3 min 5 s", "2 h 10 min", "3 d".
export function duration(ms) {
	const s = Math.max(0, ms) / 1000;
	if (s < 10)
		return `${s.toFixed(1)} s`;
	if (s < 60)
		return `${Math.floor(s)} s`;
	const two = (big, unit, small, rest) => small ? `${big} ${unit} ${small} ${rest}` : `${big} ${unit}`;
	if (s < 3600)
		return two(Math.floor(s / 60), "min", Math.floor(s % 60), "s");
	if (s < 86400)
		return two(Math.floor(s / 3600), "h", Math.floor(s % 3600 / 60), "min");
	return `${Math.floor(s / 86400)} d`;
}

// How long ago, in one unit, so that it is short and rarely changes.
export function ago(iso, now = Date.now()) {
	const t = Date.parse(iso);
	if (!Number.isFinite(t))
		return "";
	const s = (now - t) / 1000;
	if (s < 5)
		return "now";
	if (s < 60)
		return `${Math.floor(s / 5) * 5} s ago`;
	if (s < 3600)
		return `${Math.floor(s / 60)} min ago`;
	if (s < 86400)
		return `${Math.floor(s / 3600)} h ago`;
	if (s < 86400 * 60)
		return `${Math.floor(s / 86400)} d ago`;
	return new Date(t).toISOString().slice(0, 10);
}

// The reader's own clock, to the second.
export function when(iso) {
	const t = new Date(iso);
	if (!iso || Number.isNaN(t.getTime()))
		return "";
	const p = (n) => String(n).padStart(2, "0");
	return `${t.getFullYear()}-${p(t.getMonth() + 1)}-${p(t.getDate())} ` +
		`${p(t.getHours())}:${p(t.getMinutes())}:${p(t.getSeconds())}`;
}

export function seconds(n) {
	if (!n)
		return "none";
	return duration(n * 1000).replace(/^(\d+)\.0 s$/, "$1 s");
}

export function shortId(id) {
	return (id || "").slice(0, 8);
}

// A step of a build that is kept for the next one: unnamed, so that it is no user's.
export function isBuildStep(s) {
	return !s.name && s.source === "build";
}

// What a person calls a snapshot.
export function label(s) {
	return s.name || shortId(s.id);
}
