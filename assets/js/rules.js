// Who takes which call, and what would happen to one.

import { get, post } from "./api.js";
import { h, show } from "./dom.js";
import { ruleCards } from "./cards.js";
import { draft, history } from "./draft.js";
import { phone } from "./format.js";
import { icon } from "./icons.js";
import { onShortcut } from "./keys.js";
import { lists } from "./lists.js";
import { hear } from "./stream.js";
import { decisionList } from "./trace.js";
import { busy, chip, empty, field, fill, head, moment, note, panel, table } from "./ui.js";
import { capital } from "./words.js";

async function settingsByKey() {
	const { data } = await get("/settings");
	return Object.fromEntries(data.settings.map(({ key, value }) => [key, value]));
}

const DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/** The spans of each day, from `mon-fri 08:00-12:00 13:00-18:00`. */
function weekOf(open) {
	const week = DAYS.map(() => []);
	for (const said of open) {
		const [, days, spans] = /^(\D+?)\s*(\d.*)$/.exec(said) ?? [];
		for (const range of days?.split(",") ?? []) {
			const [from, to] = range.trim() === "daily" ? ["mon", "sun"] : range.trim().split("-");
			const first = DAYS.indexOf(from);
			const length = (DAYS.indexOf(to ?? from) - first + 7) % 7;
			for (let i = 0; i <= length; i += 1) week[(first + i) % 7].push(...spans.split(" "));
		}
	}
	return week.map((spans) => spans.sort().join(", ").replaceAll("-", " – "));
}

const hoursOf = ({ name, is_open: open, until, week }) => {
	const { special: other = [], closed = [], holidays = [] } = week;
	const special = [...other, ...[...closed, ...holidays].map((days) => `${days.replace("..", " to ")} closed`)].sort();
	return [
		h("h3.row.wrap", h("span", name), chip(open ? "Open now" : "Closed now", open ? "ok" : "held")),
		h(
			"p.small.muted",
			`${week.time_zone}. `,
			until ? [open ? "Closes " : "Opens ", moment(until, "day")] : "Always so.",
		),
		table(
			`Week of ${name}`,
			["Day", "Open"],
			h(
				"tbody",
				weekOf(week.open).map((spans, i) =>
					h("tr", h("th", { scope: "row" }, capital(DAYS[i])), h("td", spans || "closed")),
				),
			),
		),
		special.length > 0 && h("p.small", h("b", "Special days: "), special.slice(0, 20).join("; ")),
	];
};

function checks({ tests, lint, rules }) {
	const to = (i) => (event) => {
		event.preventDefault();
		document.getElementById(`rule-${i}`)?.focus();
	};
	const about = (said) =>
		rules.map(
			({ name }, i) => said.includes(`"${name}"`) && [" ", h("a", { href: "/rules", onclick: to(i + 1) }, name)],
		);
	const line = (ok, ...said) => h("li", icon(ok ? "check" : "warn"), h("span", ...said));
	return tests.length + lint.length === 0
		? empty("No tests, and nothing to look at", "", "flask", true)
		: h(
				"ul.checks",
				tests.map(({ name, ok, message }) => line(ok, `Test “${name}”: ${ok ? "passes" : message}`)),
				lint.map((said) => line(false, said, about(said))),
			);
}

/** A time as people write it, in the zone of the rules, as ISO. */
function momentOf(said, zone) {
	if (/T.*(Z|[+-]\d\d:?\d\d)$/.test(said)) return new Date(said).toISOString();
	const [, day, time] = /^(?:(today|tomorrow|\d{4}-\d\d-\d\d)[ T]+)?(\d\d?:\d\d)$/.exec(said) ?? [];
	if (!time) throw new Error("Write a time like 19:00, “tomorrow 19:00” or 2026-12-24 19:00.");
	const shown = (at) => new Date(at).toLocaleString("sv-SE", { timeZone: zone });
	const date = day?.includes("-") ? day : shown(Date.now()).slice(0, 10);
	const wanted = Date.parse(`${date}T${time.padStart(5, "0")}Z`) + (day === "tomorrow" ? 86_400_000 : 0);
	let at = wanted;
	// Twice, as the clocks may change in between.
	for (let i = 0; i < 2; i += 1)
		at = wanted - (Date.parse(`${shown(at).replace(" ", "T")}Z`) - Math.floor(at / 1e3) * 1e3);
	return new Date(at).toISOString();
}

const FATES = {
	number: "put through to the number of the rule",
	reject: "refused",
	message: "told the message of the rule",
	closed: "told that nobody is there at this hour",
};

function outcome({ plan, course }) {
	if (plan.length) return `This caller would go to ${plan.join(", then ")}.`;
	return `This caller would be ${FATES[course.is] ?? "held: nobody could take the call now"}.`;
}

function explainForm(query) {
	const input = (name, more) => h("input.input", { name, autocomplete: "off", value: query.get(name) ?? "", ...more });
	const score = input("score", { type: "number", step: "any", placeholder: "unknown" });
	const to = input("to");
	const at = input("at", { placeholder: "now" });
	const from = input("from");
	const look = h("input", { type: "checkbox", name: "lookup", onchange: () => (score.disabled = look.checked) });
	const go = h("button.btn.primary", { type: "submit" }, "Explain");
	const answer = h("div.stack", { "aria-live": "polite" });
	const wrong = h("p.wrong.small", { role: "alert" });
	const bare = (control) => control.value.replace(/[\s()/.]/g, "") || undefined;
	const form = h(
		"form.stack",
		{ id: "explain", novalidate: true },
		h(
			"div.fields",
			field("Lead score", score),
			field("Time", at, "19:00, tomorrow 19:00, 2026-12-24 19:00"),
			field("Called number", to),
			field("Caller's number", from),
		),
		h("div.row.wrap", go, h("label.switch.on-good", look, "Ask Braze")),
		wrong,
		answer,
	);
	form.addEventListener("submit", (event) => {
		event.preventDefault();
		wrong.textContent = "";
		busy(go, async () => {
			try {
				const said = at.value.trim();
				const { data } = await post("/routing/explain", {
					from: bare(from),
					to: bare(to),
					at: said ? momentOf(said, (await settingsByKey())["routing.time_zone"]) : undefined,
					...(look.checked ? { lookup: true } : score.value ? { score: Number(score.value) } : {}),
				});
				show(
					answer,
					note("accent", h("strong", outcome(data)), "fork"),
					decisionList(data.trace),
					data.skipped.map((one) => h("p.small.muted", `${one.dialer} would be asked: ${one.change}.`)),
				);
			} catch (error) {
				show(answer);
				wrong.textContent = error.whole ?? error.message;
				(error.details?.from ? from : at).focus();
			}
		});
	});
	if (query.has("score") || query.has("to") || query.has("at")) queueMicrotask(() => form.requestSubmit());
	return form;
}

export function rules(main, { query }) {
	const [cards, hours, checked] = [h("div.stack"), h("div.stack"), h("div")];
	const [listBox, draftBox, historyBox] = [h("div"), h("div.stack"), h("div.stack")];
	show(
		main,
		head("Rules"),
		h(
			"div.grid",
			h(
				"div.stack.w7",
				panel("Rules in force, the first that matches wins", {}, cards),
				panel("Draft", {}, draftBox),
				panel("History", {}, historyBox),
			),
			h(
				"div.stack.w5",
				panel("What would happen to a call?", {}, explainForm(query)),
				panel("Tests and findings", {}, checked),
				panel("Opening hours", {}, hours),
				panel("Lists", {}, listBox),
			),
		),
	);
	async function load() {
		const [asked, settings] = [get("/routing/rules"), settingsByKey()];
		const context = async () => {
			const values = await settings;
			const isWritable = values["server.edit_rules"] === "true" && Boolean(values["routing.file"]);
			return { rules: (await asked).data, isWritable, load };
		};
		const part = (box, draw) =>
			fill(
				box,
				() => asked,
				({ data }) => draw(data),
			);
		await Promise.all([
			fill(
				cards,
				async () => {
					const [{ data }, day, values] = await Promise.all([asked, get("/calls/metrics?window=24h"), settings]);
					const number = values["routing.last_resort_number"];
					const end = `Where no dialer takes the call in time: ${number ? `dial ${phone(number)}` : "say goodbye"}.`;
					return ruleCards(data, { figures: day.data.rules, from: day.data.from, end });
				},
				(drawn) => drawn,
			),
			part(checked, checks),
			part(hours, (data) =>
				data.hours.length ? data.hours.map(hoursOf) : empty("No opening hours", "", "clock", true),
			),
			fill(listBox, () => get("/routing/lists"), lists),
			fill(historyBox, async () => [await context(), await get("/routing/rulesets?page_size=50")], history),
			draftBox.querySelector("[data-dirty]") ? null : fill(draftBox, context, draft),
		]);
	}
	load();
	return [hear(["settings", "reset"], load), onShortcut({ r: load })];
}
