// What came of calls, and what old scores cost.

import { get, query } from "./api.js";
import { h, keep, recall, s, show } from "./dom.js";
import { count, percent, phone } from "./format.js";
import { onShortcut } from "./keys.js";
import { choices, empty, fill, head, panel, select, table } from "./ui.js";
import * as words from "./words.js";

const DAY_MS = 86_400_000;
const SPANS = [1, 4, 13, 52].map((weeks) => [weeks, `Weeks: ${weeks}`]);
const GROUPS = ["rule", "dialer", "tier", "number"].map((by) => [by, words.capital(by)]);
const METRICS = [
	["answer_seizure_ratio", "Answer rate"],
	["mean_answer_s", "Time to answer"],
];
const SCORES = ["calls", "fresh", "elsewhere"];
const HOURS = Array.from({ length: 24 }, (_, hour) => String(hour).padStart(2, "0"));
const COLUMNS = [
	["calls", "#Calls", ""],
	["answered", "#Answered", "answered"],
	["answer_seizure_ratio", "#ASR"],
	["mean_talk_s", "#Talk"],
	["mean_answer_s", "#To answer"],
	["abandoned", "#Abandoned", "abandoned"],
	["mean_abandon_s", "#After"],
];

const seconds = (n) => (n === null ? "–" : n < 100 ? `${n.toFixed(n < 10 ? 1 : 0)} s` : `${(n / 60).toFixed(1)} min`);

/** The filter of the calls of a row; nothing where there is none. */
function filterOf(by, { name, called_id }) {
	if (by === "day") return {};
	if (by === "tier") return { tier: name ?? "none" };
	return by === "number" ? called_id && { called_id } : name && { [by]: name };
}

function figures({ by, from, to, rows }) {
	const cell = (row, [name, , disposition]) => {
		if (name === "answer_seizure_ratio") return row.is_sparse ? h("span.muted", "few calls") : percent(row[name]);
		if (disposition === undefined) return seconds(row[name]);
		const bounds = { from: [row.from ?? from, from].sort()[1], to: [row.to ?? to, to].sort()[0] };
		const filter = filterOf(by, row);
		const href = filter && `/logs${query({ ...filter, ...bounds, disposition })}`;
		return href ? h("a", { href }, count(row[name])) : count(row[name]);
	};
	const nameOf = ({ name }) => (by === "number" ? name && phone(name) : words.lineName(name)) ?? "none";
	return table(
		`Figures by ${by}`,
		[words.capital(by), ...COLUMNS.map(([, label]) => label)],
		h(
			"tbody",
			rows.map((row) =>
				h(
					"tr",
					h("th", { scope: "row" }, nameOf(row)),
					COLUMNS.map((column) => h("td.num", cell(row, column))),
				),
			),
		),
	);
}

function trend(data) {
	const [first, last] = [data.rows[0].name, data.rows.at(-1).name];
	const place = ({ name }) => ((Date.parse(name) - Date.parse(first)) / DAY_MS) * 10;
	const most = Math.max(...data.rows.map(({ calls }) => calls));
	const line = data.rows
		.filter((row) => !row.is_sparse)
		.map((row, i) => `${i ? "L" : "M"}${place(row) + 5} ${(98 - row.answer_seizure_ratio * 96).toFixed(1)}`);
	return [
		h(
			"div.chart",
			s(
				"svg",
				{ role: "img", viewBox: `0 0 ${place({ name: last }) + 10} 100`, preserveAspectRatio: "none", height: 150 },
				s("title", "Calls a day and the answer rate"),
				data.rows.map((row) => {
					const height = (96 * row.calls) / most;
					return s("rect", { class: "day", x: place(row) + 1, y: 100 - height, width: 8, height });
				}),
				s("path", { class: "rate", d: line.join("") || "M0 0", "vector-effect": "non-scaling-stroke" }),
			),
		),
		h(
			"p.legend",
			h("span", `${first} to ${last}`),
			h("span", h("i.key"), `Calls, at most ${count(most)} a day`),
			h("span", h("i.key.rate"), "Answer rate, 0 to 100 %"),
		),
		h("details.twin", h("summary", "Show as table"), figures({ ...data, rows: data.rows.toReversed() })),
	];
}

function heat({ rows, zone, minimum_sample: least }, metric) {
	const isRate = metric === METRICS[0][0];
	const top = isRate ? 1 : Math.max(...rows.map((row) => (row.is_sparse ? 0 : row[metric])), 1);
	const cell = (wanted) => {
		const row = rows.find(({ name }) => name === wanted);
		if (!row) return h("td");
		if (row.is_sparse) return h("td.muted", "·", h("span.unseen", "few calls"));
		const node = h("td.hot", { title: `${count(row.ended)} calls` }, Math.round(row[metric] * (isRate ? 100 : 1)));
		node.style.setProperty("--mix", `${Math.round((row[metric] / top) * 55)}%`);
		return node;
	};
	return [
		table(
			"Hours of the week",
			["Day", ...HOURS],
			h(
				"tbody",
				"mon tue wed thu fri sat sun".split(" ").map((day) =>
					h(
						"tr",
						h("th", { scope: "row" }, words.capital(day)),
						HOURS.map((hour) => cell(`${day} ${hour}`)),
					),
				),
			),
			"heat",
		),
		h(
			"p.tiny.muted",
			`${isRate ? "Percent" : "Seconds"}, by hour of arrival, ${zone}. A dot: fewer than ${least} calls.`,
		),
	];
}

function scores({ staleness: causes, from, to }) {
	const [calls, fresh, elsewhere] = SCORES.map((name) => causes.reduce((sum, row) => sum + row[name], 0));
	if (!calls) return empty("Every score was fresh", "", "check", true);
	const href = `/logs${query({ view: "records", kind: "score_refreshed", from, to })}`;
	return [
		h(
			"p",
			`An old score or none decided ${count(calls)} calls. `,
			fresh > 0 && [
				h(
					"strong",
					`${percent(elsewhere / fresh)} of the `,
					h("a", { href }, `${count(fresh)} for which a fresh one came`),
				),
				" would have gone elsewhere with it.",
			],
		),
		table(
			"Old scores by cause",
			["Cause", "#Calls", "#Fresh came", "#Elsewhere"],
			h(
				"tbody",
				causes.map((row) =>
					h(
						"tr",
						h("th", { scope: "row" }, words.failure(row.cause)),
						SCORES.map((name) => h("td.num", count(row[name]))),
					),
				),
			),
		),
	];
}

export function quality(main) {
	let weeks = Number(recall("quality-weeks") ?? 4);
	let group = "rule";
	let metric = METRICS[0][0];
	const [days, hours, groups, old] = Array.from({ length: 4 }, () => h("div.stack"));
	const asked = async (by) =>
		(await get(`/quality${query({ by, from: new Date(Date.now() - weeks * 7 * DAY_MS).toISOString() })}`)).data;
	const part = (box, by, draw) =>
		fill(
			box,
			() => asked(by),
			(data) => {
				if (!data.rows.length) return empty("No calls in this time", "", "clock", true);
				const href = `/api/v1/quality${query({ by, from: data.from, to: data.to, format: "csv" })}`;
				const csv = h("a.btn", { href, download: true }, "CSV", h("span.unseen", ` by ${by}`));
				return [draw(data), h("p", csv)];
			},
		);
	const byHour = () => part(hours, "hour", (data) => heat(data, metric));
	const byGroup = () => part(groups, group, figures);
	const load = () =>
		Promise.all([part(days, "day", trend), byHour(), byGroup(), fill(old, () => asked("tier"), scores)]);
	const time = select(SPANS, weeks, (value) => (keep("quality-weeks", (weeks = +value)), load()));
	time.setAttribute("aria-label", "Time of the figures");
	show(
		main,
		head("Quality", h("div", time)),
		h(
			"div.stack",
			panel("By day", {}, days),
			panel(
				"By hour of the week",
				{ tools: choices("Figure", "metric", METRICS, metric, (value) => ((metric = value), byHour())) },
				hours,
			),
			panel(
				"By what calls have in common",
				{ tools: choices("Group by", "by", GROUPS, group, (value) => ((group = value), byGroup())) },
				groups,
				h(
					"p.tiny.muted",
					"ASR (ITU-T E.425): answered calls of those over. Talk: from answer to end. ",
					"After: until the caller left. Dialer: that rang last.",
				),
			),
			panel("Scores that were not fresh", {}, old),
		),
	);
	load();
	return [onShortcut({ r: load })];
}
