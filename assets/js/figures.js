// Figures of dialers as a table that is sorted by any of its columns; every count leads to its rows.

import { get, query } from "./api.js";
import { attr, h, recall, keep, show } from "./dom.js";
import { count, ms } from "./format.js";
import { panel, select } from "./ui.js";
import * as words from "./words.js";

const WINDOWS = [
	["1h", "Last hour"],
	["24h", "Last 24 h"],
	["7d", "Last 7 days"],
];
const COLUMNS = [
	["dialer", "Dialer"],
	["calls", "Calls"],
	["answered", "Answered"],
	["failed", "Failed"],
	["handoffs", "Asked"],
	["handoffs_failed", "Not accepted"],
	["p95_ms", "p95"],
];
/** What a count leads to. */
const FILTERS = { calls: {}, answered: { disposition: "answered" }, failed: { outcome: "failed" } };

/** The figures of all dialers: `{node, load}`. */
export function dayFigures() {
	let window_ = recall("dialer-window") ?? "24h";
	let [by, down] = ["p95_ms", true];
	let metrics = null;
	const body = h("tbody");
	const heads = COLUMNS.map(([name, label]) =>
		h(
			"th",
			{ scope: "col", class: name === "dialer" ? null : "num" },
			h(
				"button.sort",
				{ onclick: () => (([by, down] = [name, by === name ? !down : name !== "dialer"]), draw()) },
				label,
			),
		),
	);
	const choice = select(WINDOWS, window_, (value) => {
		window_ = value;
		keep("dialer-window", value);
		load();
	});
	choice.setAttribute("aria-label", "Time of the figures");
	const node = panel(
		"Figures by dialer",
		{ flush: true, tools: h("div", choice) },
		h(
			"div.scroll-x",
			{ tabindex: "0", role: "region", "aria-label": "Figures by dialer as table" },
			h("table", h("thead", h("tr", heads)), body),
		),
	);
	node.classList.add("spent");

	function cell(row, name) {
		const value = row[name];
		if (name === "p95_ms") return ms(value ?? NaN);
		const filter = FILTERS[name];
		if (!filter) return count(value);
		return h("a", { href: `/logs${query({ from: metrics.from, dialer: row.dialer, ...filter })}` }, count(value));
	}

	function draw() {
		heads.forEach((head, i) =>
			attr(head, "aria-sort", COLUMNS[i][0] === by ? (down ? "descending" : "ascending") : null),
		);
		const order = (a, b) => (typeof a === "string" ? a.localeCompare(b) : (a ?? -1) - (b ?? -1)) * (down ? -1 : 1);
		const rows = [...(metrics?.by_dialer ?? [])].sort((one, other) => order(one[by], other[by]));
		show(
			body,
			rows.map((row) =>
				h(
					"tr",
					h("th", { scope: "row" }, words.lineName(row.dialer)),
					COLUMNS.slice(1).map(([name]) => h("td.num", cell(row, name))),
				),
			),
			!rows.length && h("tr", h("td.muted", { colspan: COLUMNS.length }, "No calls in this time.")),
		);
	}

	async function load() {
		const wanted = window_;
		const { data } = await get(`/calls/metrics?window=${wanted}`).catch(() => ({}));
		if (!data || wanted !== window_) return;
		metrics = data;
		draw();
	}
	return { node, load };
}
