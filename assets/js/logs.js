// The log: every call and every record, filtered, however many there are.

import { callPath, get, query } from "./api.js";
import { attr, debounce, h, show, text, throttle } from "./dom.js";
import { count, dayOf, ms, phone, timeOf, toField } from "./format.js";
import { icon } from "./icons.js";
import { onShortcut } from "./keys.js";
import { hear } from "./stream.js";
import {
	askReveal,
	busy,
	choices,
	dialog,
	empty,
	failed,
	field,
	head,
	moment,
	pageButton,
	pair,
	say,
	select,
	toast,
} from "./ui.js";
import { lists } from "./viewer.js";
import { chipColumn, linkColumn, textColumn, timeColumn } from "./vlog.js";
import * as words from "./words.js";

const SPANS = { "15m": 900_000, "1h": 3_600_000, "24h": 86_400_000, "7d": 604_800_000, "30d": 2_592_000_000 };
/** Filters that are folded away unless they are set. */
const RARE = "failure rule called slower_than failed_over held status".split(" ");
const PARTS = {
	calls: [..."q caller outcome disposition dialer tier incident caller_id called_id".split(" "), ...RARE],
	records: ["q", "kind", "severity"],
};
const EXPORT_MOST = 100_000;

const callHref = (row) => callPath(row.call_id);
const recordPath = (id) => `/logs?view=records&record=${id}`;
const tierOf = (call) =>
	call.tier ? `${call.tier}${Number.isFinite(call.score) ? ` ${Math.round(call.score)}` : ""}` : "–";
const outcome = (call) => (call.status === "ended" ? words.end(call.disposition) : words.stage(call.status));
const tone = (call) => (call.status === "ended" ? words.endTone(call.disposition) : words.stageTone(call.status));

const CALLS = [
	timeColumn("Arrived", "clamp(5.4rem, 24vw, 9.5rem)", (row) => row.started_at),
	linkColumn("Caller", "clamp(5.4rem, 26vw, 9.5rem)", (row) => phone(row.caller), callHref),
	chipColumn("Outcome", "clamp(7.6rem, 34vw, 9.5rem)", outcome, tone),
	textColumn(
		"Dialer",
		"",
		(row) => `${words.line(row, "nobody")}${row.failed_over ? ", failed over" : ""}`,
		null,
		"p1",
	),
	textColumn("Tier", "6.5rem", tierOf, null, "p3"),
	textColumn("Reason", "", (row) => words.reason(row.reason), null, "p4 muted"),
	textColumn("Routed in", "6.5rem", (row) => ms(row.routing_ms ?? NaN), null, "num p2"),
];
const RECORDS = [
	timeColumn("Time", "clamp(5.4rem, 24vw, 9.5rem)", (row) => row.at),
	linkColumn(
		"Record",
		"clamp(7rem, 30vw, 11rem)",
		(row) => words.kind(row.kind),
		(row) => recordPath(row.id),
	),
	chipColumn(
		"Severity",
		"6.5rem",
		(row) => row.severity,
		(row) => ({ error: "bad", warn: "warn" })[row.severity],
		"p2",
	),
	textColumn("What happened", "", summary),
	textColumn("Call", "11rem", (row) => row.call_id ?? "–", null, "p4 muted"),
	textColumn("No.", "7rem", (row) => count(row.id), null, "num p3 muted"),
];

const incident = ({ kind }) => words.capital(words.plain(kind));
const seconds = (ms) => `${Math.round(ms / 1000)} s`;
const dayAndTime = (at) => `${dayOf(at)}, ${timeOf(at)}`;

/** A record in one line. */
export function summary({ kind, detail = {} }) {
	switch (kind) {
		case "call_decided":
			return `${words.reason(detail.decision?.reason)}: ${words.plan(detail) || "nobody"}`;
		case "handoff_intended":
			return `Asking ${detail.dialer}, ${ms(detail.timeout_ms)} at most`;
		case "handoff_concluded":
			return `${detail.dialer} ${words.outcome(detail.outcome)}${detail.kind ? `: ${words.failure(detail.kind)}` : ""}`;
		case "call_answered":
			return `Answered in ${ms(detail.stages?.total_ms)}${detail.within_budget === false ? ", after the budget" : ""}`;
		case "health_changed":
			return `${detail.service}: ${words.plain(detail.from)} to ${words.plain(detail.to)}, ${detail.cause}`;
		case "incident_opened":
			return `${incident(detail)}: ${detail.cause}`;
		case "incident_resolved":
			return `${incident(detail)}: over after ${seconds(detail.lasted_ms)}, ${count(detail.calls)} calls`;
		case "webhook_unusable":
			return `${detail.path}: ${detail.reason}`;
		case "service_started":
			return `Version ${detail.version}`;
		case "leg_reported":
			return `${words.party(detail, "The caller")}: ${words.leg(detail.report.status)}`;
		case "dial_ended":
			return `${words.party(detail, "Last resort")}: ${words.plain(detail.report.end)}`;
		case "call_ended":
			return words.end(detail.outcome);
		case "call_corrected":
			return `${words.end(detail.from)}, corrected to ${words.end(detail.to).toLowerCase()}`;
		case "accessed":
			return accessed(detail);
		case "list_changed":
			return `${detail.by} ${detail.change === "added" ? "put a number on" : "took a number off"} ${detail.list}`;
		case "config_changed":
			return `${detail.by ?? "Somebody"} changed the configuration`;
		case "caller_erased":
			return `A caller was erased: ${count(detail.calls)} calls`;
		default:
			return Object.entries(detail)
				.filter(([, value]) => typeof value !== "object")
				.slice(0, 3)
				.map(([name, value]) => `${words.plain(name)} ${value}`)
				.join(", ");
	}
}

/** Who came, or tried to. */
function accessed({ is, by, source, route, calls, phone: number, keys, why }) {
	const from = source ? ` from ${source}` : "";
	const done = {
		numbers_searched: "searched for callers by more than two digits",
		customer_shown: "looked a caller up in Braze",
		customer_forgotten: "had a caller's profile forgotten",
		caller_erased: "erased a caller",
	};
	if (done[is]) return `${by} ${done[is]}${number ? `, ${phone(number)}` : ""}`;
	if (is === "refused") return `${keys?.join(", ") || "Somebody without a key"} was refused${from}`;
	if (is === "session_ended") return `${by} is signed out: ${why}`;
	if (is === "numbers_revealed") return `${by} saw numbers in full: ${count(calls)} calls at ${route}`;
	return `${by ?? "Somebody"} ${{ logged_in: "signed in", logged_out: "signed out" }[is] ?? words.plain(is)}${from}`;
}

/** Copies a text, where the browser lets a page do so. */
function copyButton(what, value) {
	const copy = () => navigator.clipboard.writeText(value).then(() => toast("ok", `The ${what} is copied.`));
	return h(
		"button.btn",
		{ onclick: () => copy().catch(() => toast("bad", "This browser does not let a page copy.")) },
		`Copy the ${what}`,
	);
}

/** One record with everything that it says. Resolves when it is closed. */
function showRecord(record) {
	const detail = JSON.stringify(record.detail, null, 2);
	return dialog(
		words.kind(record.kind),
		(close) => [
			h("p", summary(record)),
			h(
				"dl.kv",
				pair("Number", count(record.id)),
				pair("When", moment(record.at, "full")),
				pair("Severity", record.severity),
				pair("Kind", h("span.mono", record.kind)),
				record.call_id && pair("Call", h("a", { href: callHref(record), onclick: () => close() }, record.call_id)),
				record.caller && pair("Caller", phone(record.caller)),
				pair("Hash", h("span.mono", record.hash)),
			),
			h("pre", { tabindex: "0", "aria-label": "What the record says" }, detail),
			h(
				"div.actions.wrap",
				copyButton("record", JSON.stringify(record)),
				copyButton("hash", record.hash),
				h("button.btn.primary", { autofocus: true, onclick: () => close() }, "Close"),
			),
		],
		{ drawer: true },
	);
}

export function logs(main, { query: asked, replace }) {
	const wanted = Object.fromEntries(asked);
	let view = wanted.view === "records" || wanted.record ? "records" : "calls";
	const filter = { span: wanted.span ?? "", from: wanted.from ?? "", to: wanted.to ?? "" };
	for (const name of new Set([...PARTS.calls, ...PARTS.records])) filter[name] = wanted[name] ?? "";
	let reveal = false;
	let waiting = 0;
	let dialers = [];
	let tiers = [];
	let settings = null;

	const log = h("sb-log");
	const where = h("span.grow.fig");
	const newest = pageButton("Newest", "arrow", () => reopen());
	const jump = h("input.input", {
		type: "datetime-local",
		step: "1",
		onchange: () => jump.value && jumpTo(new Date(jump.value)),
	});
	jump.style.width = "13.5rem";
	const filters = h("form.filters.shut", {
		role: "search",
		"aria-label": "Filter the log",
		onsubmit: (event) => event.preventDefault(),
	});
	if (RARE.some((name) => filter[name])) filters.classList.remove("shut");
	const state = h("div", { hidden: true });
	const box = h(
		"section.panel",
		{ "aria-label": "Log" },
		filters,
		log,
		state,
		h("div.log-foot", where, h("label.row", "Jump to", jump), newest),
	);
	const views = choices(
		"What to list",
		"view",
		[
			["calls", "Calls"],
			["records", "Records"],
		],
		view,
		(value) => {
			view = value;
			drawFilters();
			reopen();
		},
	);
	const revealSwitch = askReveal((on) => {
		reveal = on;
		return reopen();
	});
	const exportButton = pageButton("CSV", "download", () => busy(exportButton, () => exportAs("csv")));
	const exportLines = pageButton("JSON lines", "download", () => busy(exportLines, () => exportAs("jsonl")));
	const proof = h("a.btn", { download: "audit.jsonl" }, icon("download"), "With proof");
	show(main, head("Logs", revealSwitch, exportButton, exportLines, proof, views), box);
	log.style.setProperty("--log-height", "max(20rem, calc(100vh - 17.5rem))");

	function bounds() {
		const from =
			filter.span && SPANS[filter.span] ? new Date(Date.now() - SPANS[filter.span]).toISOString() : filter.from;
		return { from, to: filter.to };
	}

	function parameters() {
		const { from, to } = bounds();
		const own = Object.fromEntries(PARTS[view].map((name) => [name, filter[name]]));
		return { ...own, from, to, ...(reveal ? { reveal: "true" } : {}) };
	}

	/** The later of two lower bounds, the earlier of two upper ones: a jump never leaves the filter. */
	const within = ({ from, to }) => {
		const limits = bounds();
		return { from: [from, limits.from].filter(Boolean).sort().at(-1), to: [to, limits.to].filter(Boolean).sort()[0] };
	};

	async function ask({ cursor, from, to, size, signal }) {
		const path = view === "calls" ? "/calls" : "/logs";
		const asked = { ...parameters(), ...within({ from, to }), cursor, page_size: size };
		const answer = await get(`${path}${query(asked)}`, { signal });
		const { data: rows, next_cursor: next, total, total_is_exact: exact } = answer;
		return { rows, next: next ?? null, total, exact: exact !== false };
	}

	const source = {
		get label() {
			return view === "calls" ? "Calls, newest first" : "Audit records, newest first";
		},
		/** One question looks at some rows only: it is asked on until a row is found. */
		async load(wanted) {
			let page = await ask(wanted);
			for (let pages = 1; !page.rows.length && page.next; pages += 1) {
				text(where, `Searching, ${count(pages * 2_000)} ${view} looked through`);
				page = await ask({ ...wanted, cursor: page.next });
			}
			return page;
		},
		at: (row) => row.started_at ?? row.at,
		key: (row) => (view === "calls" ? row.call_id : row.id),
		async oldest() {
			if (filter.from || filter.span) return bounds().from;
			settings ??= (await get("/settings").catch(() => ({ data: {} }))).data;
			return settings.database?.oldest ?? settings.database?.oldest_at ?? settings.database?.oldest_record_at ?? null;
		},
	};

	/** The address of what is shown. */
	function address(more = {}) {
		const named = Object.entries({ view: view === "calls" ? "" : view, ...filter });
		const kept = named.filter(
			([name, value]) => value && (PARTS[view].includes(name) || ["view", "span", "from", "to"].includes(name)),
		);
		return `/logs${query({ ...Object.fromEntries(kept), ...more })}`;
	}

	/** Opens a record over the list; the address names it as long as it is open. */
	async function openRecord(id) {
		replace(address({ record: id }));
		try {
			const [record] = (await get(`/logs${query({ record: id })}`)).data;
			if (record) await showRecord(record);
			else toast("bad", `There is no record ${id}, or it has passed its time.`);
		} catch (error) {
			toast("bad", error.message);
		}
		if (log.isConnected) replace(address());
	}

	async function reopen({ at } = {}) {
		waiting = 0;
		state.hidden = true;
		log.hidden = false;
		replace(address());
		attr(proof, "href", `/api/v1/logs/export${query(bounds())}`);
		await log.open(view === "calls" ? CALLS : RECORDS, source);
		if (at) await log.jump(Date.parse(at) + 1);
	}

	async function jumpTo(time) {
		await log.jump(time.getTime());
		say(`Rows from ${dayOf(time)}, ${timeOf(time)} downwards`);
	}

	const soon = debounce(() => reopen(), 250);
	log.addEventListener("failed", ({ detail }) => {
		show(
			state,
			failed(detail, () => reopen()),
		);
		state.hidden = false;
		log.hidden = true;
	});
	log.addEventListener("view", ({ detail: { first, top, bottom } }) => {
		const none = log.total === 0;
		if (none === state.hidden) {
			state.hidden = !none;
			log.hidden = none;
			if (none)
				show(
					state,
					isFiltered()
						? empty("Nothing matches these filters", "Take one away, or widen the time.", "search")
						: empty(`No ${view} yet`, "They appear here as they are written.", "logs"),
				);
		}
		const range = top && bottom ? `${dayAndTime(source.at(top))} to ${dayAndTime(source.at(bottom))} · ` : "";
		const about = log.exact ? "" : "about ";
		text(
			where,
			none ? "" : `${range}${about}${count(log.total)} ${view}${waiting && first > 0 ? ", new ones above" : ""}`,
		);
		newest.hidden = first === 0;
	});

	log.addEventListener("click", (event) => {
		const link = event.target.closest("a");
		const row = link?.closest("tr").row;
		// Back leads to this row again.
		if (row) history.replaceState({ at: source.at(row), row: link.getAttribute("href") }, "");
		const id = link && new URLSearchParams(link.search).get("record");
		if (!id || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
		event.preventDefault();
		openRecord(id);
	});

	const isFiltered = () =>
		Object.entries(filter).some(
			([name, value]) => value && (PARTS[view].includes(name) || ["span", "from", "to"].includes(name)),
		);

	function drawFilters() {
		const set = (name) => (value) => {
			filter[name] = value;
			soon();
		};
		const any = (label, values, wording = (value) => value) => [
			["", label],
			...values.map((value) => [value, wording(value)]),
		];
		const search = h("input.input", {
			type: "search",
			id: "search",
			value: filter.q || filter.caller,
			autocomplete: "off",
			spellcheck: "false",
			placeholder: view === "calls" ? "90, 0170 …, +49 … or CA…" : "+49 30 … or CA…",
			onchange: () => find(true),
			oninput: () => find(false),
		});
		/** More than two last digits are looked for once the field is left: that is written down. */
		function find(sure) {
			const plain = search.value.replace(/[\s()/.]/g, "");
			const digits = plain.replaceAll("-", "");
			const isNumber = /^\+?\d+$/.test(digits);
			const byDigits = view === "calls" && isNumber;
			if (byDigits && digits.length > 2 && !sure) return;
			const [q, caller] = byDigits ? ["", digits.length > 1 ? digits : ""] : [isNumber ? digits : plain, ""];
			if (q === filter.q && caller === filter.caller) return;
			Object.assign(filter, { q, caller });
			soon();
		}
		const typed = (name, more) =>
			h("input.input", {
				value: filter[name],
				...more,
				onchange: ({ target }) => set(name)(target.value.trim().replace(name === "called" ? /[\s()/.-]/g : "", "")),
			});
		const outcomes = select(
			[
				["", "Any outcome"],
				["=failed", "Failed (any)"],
				["=unreached", "To call back"],
				...lists.ends.map((name) => [name, words.end(name)]),
			],
			filter.disposition || (/^(failed|unreached)$/.test(filter.outcome) ? `=${filter.outcome}` : filter.outcome),
			(value) => {
				filter.outcome = value.startsWith("=") ? value.slice(1) : "";
				set("disposition")(value.startsWith("=") ? "" : value);
			},
		);
		const way = select(
			[
				["", "Any way"],
				["held", "Was held"],
				["failed_over", "Failed over"],
			],
			["held", "failed_over"].find((name) => filter[name] === "true") ?? "",
			(value) => {
				Object.assign(filter, { held: "", failed_over: "" });
				if (value) filter[value] = "true";
				soon();
			},
		);
		const only = (name, label) =>
			filter[name] &&
			h(
				"button.btn.incident",
				{
					"aria-label": `${label} ${filter[name]}: show all calls`,
					onclick: () => {
						filter[name] = "";
						drawFilters();
						reopen();
					},
				},
				icon("cross"),
				h("span.cut", `${label} ${filter[name]}`),
			);
		const time = select(
			[
				["", "Any time"],
				["15m", "Last 15 min"],
				["1h", "Last hour"],
				["24h", "Last 24 h"],
				["7d", "Last 7 days"],
				["30d", "Last 30 days"],
				["custom", "Between …"],
			],
			filter.from || filter.to ? "custom" : filter.span,
			(value) => {
				filter.span = value === "custom" ? "" : value;
				if (value !== "custom") filter.from = filter.to = "";
				else filter.from = new Date(Date.now() - 3_600_000).toISOString();
				drawFilters();
				soon();
			},
		);
		const edge = (name) =>
			h("input.input", {
				type: "datetime-local",
				value: filter[name] ? toField(filter[name]) : "",
				onchange: (event) => set(name)(event.target.value ? new Date(event.target.value).toISOString() : ""),
			});
		const custom = Boolean(filter.from || filter.to);
		show(
			filters,
			field(view === "calls" ? "Number, last digits or call id" : "Number, call id", search),
			view === "calls" && [
				only("incident", "Incident"),
				only("caller_id", "Caller"),
				only("called_id", "Called number"),
			],
			h(
				"button.btn",
				{
					class: view === "calls" ? "btn" : "btn narrow-only",
					"aria-expanded": String(!filters.classList.contains("shut")),
					onclick: ({ currentTarget: button }) =>
						attr(button, "aria-expanded", String(!filters.classList.toggle("shut"))),
				},
				"More filters",
			),
			field("Time", time),
			custom && field("From", edge("from")),
			custom && field("To", edge("to")),
			view === "calls"
				? [
						field("Outcome", outcomes),
						field(
							"Dialer",
							select(any("Any dialer", [...dialers, "last_resort"], words.lineName), filter.dialer, set("dialer")),
						),
						field("Tier", select(any("Any tier", [...tiers, "none"]), filter.tier, set("tier"))),
						[
							field(
								"Failed because",
								select(any("Any reason", words.ROUTING_FAILURES, words.reason), filter.failure, set("failure")),
							),
							field("Way", way),
							field("Stage", select(any("Any stage", words.STATUSES, words.stage), filter.status, set("status"))),
							field("Rule", typed("rule", { placeholder: "Name, or (default)" })),
							field("Called number", typed("called", { placeholder: "Last digits" })),
							field("Routed in more than, ms", typed("slower_than", { type: "number", min: "0", max: "600000" })),
						].map((one) => (one.classList.add("rare"), one)),
					]
				: [
						field("Kind", select(any("Any kind", lists.kinds, words.kind), filter.kind, set("kind"))),
						field(
							"Severity",
							select(any("Any severity", ["info", "warn", "error"], words.capital), filter.severity, set("severity")),
						),
					],
		);
	}

	/** Walks the filter to its end and hands the rows over as a file. */
	async function exportAs(kind) {
		const parts = [];
		let rows = 0;
		let names = null;
		let cursor = null;
		do {
			const page = await source.load({ cursor, size: 200 });
			for (const row of page.rows) {
				names ??= Object.keys(row).filter((name) => name !== "legs");
				if (kind === "jsonl") parts.push(`${JSON.stringify(row)}\n`);
				else
					parts.push(parts.length ? "" : `${names.join()}\r\n`, `${names.map((name) => cell(row[name])).join()}\r\n`);
			}
			rows += page.rows.length;
			cursor = page.next;
		} while (cursor && rows < EXPORT_MOST && log.isConnected);
		const url = URL.createObjectURL(new Blob(parts, { type: kind === "csv" ? "text/csv" : "application/x-ndjson" }));
		h("a", {
			href: url,
			download: `${view}-${new Date().toISOString().slice(0, 19).replaceAll(":", "")}.${kind}`,
		}).click();
		setTimeout(() => URL.revokeObjectURL(url), 10_000);
		toast(
			"ok",
			cursor
				? `The newest ${count(rows)} rows are in the file; the command "audit export" has no limit.`
				: `${count(rows)} rows are in the file.`,
		);
	}

	/** A field of CSV. What a spreadsheet would run as a formula becomes text. */
	function cell(value) {
		if (value === null || value === undefined) return "";
		let shown = typeof value === "object" ? JSON.stringify(value) : String(value);
		if (typeof value === "string" && /^[=+\-@\t\r]/.test(shown)) shown = `'${shown}`;
		return /[",\r\n]/.test(shown) ? `"${shown.replaceAll('"', '""')}"` : shown;
	}

	const tail = throttle(async () => {
		if (!state.hidden) reopen();
		if (filter.to || !state.hidden) return;
		if (!log.atTop) {
			waiting += 1;
			return;
		}
		try {
			const page = await ask({ size: 50 });
			if (log.atTop) log.prepend(page.rows);
		} catch {
			// The next event asks again.
		}
	}, 1_000);
	const ends = [
		soon.cancel,
		tail.cancel,
		hear(["call", "poll"], tail),
		onShortcut({
			"/": () => filters.querySelector("#search").focus(),
			j: () => log.move(1),
			k: () => log.move(-1),
			r: () => reopen(),
		}),
	];

	drawFilters();
	Promise.all([get("/dialers"), get("/calls/metrics?window=7d")]).then(
		([{ data }, metrics]) => {
			dialers = data.map((dialer) => dialer.name);
			tiers = (metrics.data.by_tier ?? []).map((row) => row.tier).filter(Boolean);
			if (!filters.contains(document.activeElement)) drawFilters();
		},
		() => {},
	);
	const back = history.state?.row && history.state;
	reopen({ at: back?.at }).then(() => {
		if (back) log.focusOn(back.row);
		if (wanted.record) openRecord(wanted.record);
	});
	if (wanted.focus === "search") queueMicrotask(() => setTimeout(() => filters.querySelector("#search").focus()));

	return ends;
}
