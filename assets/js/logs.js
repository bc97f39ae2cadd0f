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
const PARTS = {
	calls: ["q", "status", "dialer", "tier", "disposition", "incident"],
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
		default:
			return Object.entries(detail)
				.filter(([, value]) => typeof value !== "object")
				.slice(0, 3)
				.map(([name, value]) => `${words.plain(name)} ${value}`)
				.join(", ");
	}
}

/** Who came, or tried to. */
function accessed({ is, by, source, route, calls, keys, why }) {
	const from = source ? ` from ${source}` : "";
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
		{ wide: true },
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
	show(main, head("Logs", revealSwitch, exportButton, exportLines, views), box);
	log.style.setProperty("--log-height", "max(20rem, calc(100vh - 17.5rem))");

	function bounds() {
		const from =
			filter.span && SPANS[filter.span] ? new Date(Date.now() - SPANS[filter.span]).toISOString() : filter.from;
		return { from, to: filter.to };
	}

	function parameters() {
		const { from, to } = bounds();
		const own = Object.fromEntries(PARTS[view].map((name) => [name, filter[name]]));
		if (own.status === "active") own.status = "";
		return { ...own, from, to, ...(reveal ? { reveal: "true" } : {}) };
	}

	/** The later of two lower bounds, the earlier of two upper ones: a jump never leaves the filter. */
	const within = ({ from, to }) => {
		const limits = bounds();
		return { from: [from, limits.from].filter(Boolean).sort().at(-1), to: [to, limits.to].filter(Boolean).sort()[0] };
	};

	const source = {
		get label() {
			return view === "calls" ? "Calls, newest first" : "Audit records, newest first";
		},
		async load({ cursor, from, to, size, signal }) {
			const path = view === "calls" ? "/calls" : "/logs";
			const answer = await get(
				`${path}${query({ ...parameters(), ...within({ from, to }), cursor, page_size: size })}`,
				{ signal },
			);
			return {
				rows: answer.data,
				next: answer.next_cursor ?? null,
				total: answer.total,
				exact: answer.total_is_exact !== false,
			};
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
		await log.open(view === "calls" ? CALLS : RECORDS, source);
		if (at) await log.jump(Date.parse(at));
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
			value: filter.q,
			autocomplete: "off",
			spellcheck: "false",
			placeholder: "+49 30 … or CA…",
			oninput: () => {
				filter.q = search.value.replace(/[\s()/.]/g, "");
				soon();
			},
		});
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
			field(view === "calls" ? "Number or call id" : "Number, call id", search),
			view === "calls" &&
				filter.incident &&
				h(
					"button.btn.incident",
					{
						"aria-label": "All calls, not only those of this incident",
						onclick: () => {
							filter.incident = "";
							drawFilters();
							reopen();
						},
					},
					icon("cross"),
					h("span.cut", `Incident ${filter.incident}`),
				),
			h("button.btn.narrow-only", { onclick: () => filters.classList.toggle("shut") }, "More filters"),
			field("Time", time),
			custom && field("From", edge("from")),
			custom && field("To", edge("to")),
			view === "calls"
				? [
						field("Outcome", select(any("Any outcome", lists.ends, words.end), filter.disposition, set("disposition"))),
						field(
							"Dialer",
							select(any("Any dialer", [...dialers, "last_resort"], words.lineName), filter.dialer, set("dialer")),
						),
						field("Tier", select(any("Any tier", tiers), filter.tier, set("tier"))),
						field(
							"Stage",
							select(
								[
									["", "Any stage"],
									...["routing", "held", "dialing", "bridged", "ended"].map((name) => [name, words.stage(name)]),
								],
								filter.status,
								set("status"),
							),
						),
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
			const page = await source.load({ size: 50 });
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
	reopen().then(() => wanted.record && openRecord(wanted.record));
	if (wanted.focus === "search") queueMicrotask(() => setTimeout(() => filters.querySelector("#search").focus()));

	return ends;
}
