// Figures and times as people read them.

const whole = new Intl.NumberFormat("en");
const pad = (n) => String(n).padStart(2, "0");
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const minute = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "2-digit", month: "short" });
const full = new Intl.DateTimeFormat("en-GB", {
	weekday: "short",
	day: "2-digit",
	month: "short",
	year: "numeric",
	hour: "2-digit",
	minute: "2-digit",
	second: "2-digit",
	timeZoneName: "short",
});

export const count = (n) => (Number.isFinite(n) ? whole.format(n) : "–");
export const percent = (share, digits = 1) =>
	Number.isFinite(share) ? `${(share * 100).toFixed(share === 0 || share === 1 ? 0 : digits)} %` : "–";
export const ms = (n) =>
	!Number.isFinite(n)
		? "–"
		: n >= 10_000
			? `${(n / 1000).toFixed(1)} s`
			: n >= 100 || Number.isInteger(n)
				? `${whole.format(Math.round(n))} ms`
				: `${n.toFixed(1)} ms`;
export const bytes = (n) => {
	if (!Number.isFinite(n)) return "–";
	let unit = 0;
	while (n >= 1024 && unit < 4) {
		n /= 1024;
		unit += 1;
	}
	return `${n.toFixed(unit === 0 || n >= 100 ? 0 : 1)} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
};

/** A running length: 0:07, 12:31, 1:02:03. */
export function running(milliseconds) {
	const total = Math.max(0, Math.floor(milliseconds / 1000));
	const [hours, minutes, seconds] = [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60];
	return hours ? `${hours}:${pad(minutes)}:${pad(seconds)}` : `${minutes}:${pad(seconds)}`;
}

/** A length in words: 8 s, 3 min, 2 h 5 min, 4 d 3 h. */
export function lasting(milliseconds) {
	const total = Math.max(0, Math.round(milliseconds / 1000));
	if (total < 60) return `${total} s`;
	if (total < 3600) return `${Math.floor(total / 60)} min`;
	if (total < 86_400) return `${Math.floor(total / 3600)} h ${Math.floor(total / 60) % 60} min`;
	return `${Math.floor(total / 86_400)} d ${Math.floor(total / 3600) % 24} h`;
}

export const ago = (at) => `${lasting(Date.now() - Date.parse(at))} ago`;
export const timeOf = (at) => clock.format(new Date(at));
export const minuteOf = (at) => minute.format(new Date(at));
export const dayOf = (at) => day.format(new Date(at));
export const fullOf = (at) => full.format(new Date(at));
export const isToday = (at) => new Date(at).toDateString() === new Date().toDateString();
export const utcOf = (at) =>
	`${new Date(at)
		.toISOString()
		.replace("T", " ")
		.replace(/\.\d+Z$/, "")} UTC`;

/** The value of a `datetime-local` field for a moment, in the viewer's zone. */
export function toField(at) {
	const date = new Date(at);
	const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
	return `${day}T${pad(date.getHours())}:${pad(date.getMinutes())}`;
}

/** A number as it is shown: what is hidden in it takes little room. */
export const phone = (number) => (number ? number.replace(/\*+/g, "•••••") : "withheld");
