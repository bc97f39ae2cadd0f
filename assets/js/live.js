// The live view: is it working, who is on the line, where calls went, what fails.

import { callPath, get, query as asQuery } from "./api.js";
import { Bars, Latencies, Trend } from "./chart.js";
import { attr, h, keep, keyed, recall, show, text, throttle } from "./dom.js";
import { count, lasting, ms, phone, running, timeOf } from "./format.js";
import { icon } from "./icons.js";
import { onShortcut } from "./keys.js";
import { muteButton, takeOut } from "./quiet.js";
import { alerts } from "./state.js";
import { hear, stream } from "./stream.js";
import { chip, choices, empty, failed, head, moment, panel, table } from "./ui.js";
import { viewer } from "./viewer.js";
import * as words from "./words.js";

const WINDOWS = [
	["5m", "5 min"],
	["1h", "1 h"],
	["24h", "24 h"],
	["7d", "7 d"],
];
const LENGTH_MS = { "5m": 300_000, "1h": 3_600_000, "24h": 86_400_000, "7d": 604_800_000 };
/** How often the figures of a window are asked for while calls come: the eye sees no faster change. */
const REFRESH_MS = { "5m": 1_000, "1h": 3_000, "24h": 15_000, "7d": 60_000 };
const RECENT = 8;
const ACTIVE = 25;
const BUDGET_MS = 2_000;
/** A caller on hold longer than this was not taken when they asked again. */
const ROUND_MS = 5_000;

const colors = new Map();
/** The color of a dialer: the same wherever it is drawn. */
export function colorOf(name) {
	if (!colors.has(name)) colors.set(name, String((colors.size % 4) + 1));
	return colors.get(name);
}

/** One figure: changed in place, of a width that does not depend on its value. */
function kpi(name) {
	const [value, sub] = [h("a.figure"), h("dd.sub")];
	const node = h("div.kpi", h("dt", name), h("dd.fig", value), sub);
	/** `below` is text, or pairs of a text and the address of the rows behind it. */
	node.draw = (figure, unit, below, tone, href) => {
		attr(value, "href", href);
		attr(value, "aria-label", href && `${figure}${unit} ${name}`);
		if (!value.firstChild) value.append("", h("small"));
		if (value.firstChild.data !== figure) value.firstChild.data = figure;
		text(value.lastChild, unit);
		const key = JSON.stringify(below);
		if (sub.dataset.key !== key) {
			sub.dataset.key = key;
			const part = ([words, href], i) => [i > 0 && ", ", href ? h("a", { href }, words) : words];
			show(sub, typeof below === "string" ? below : below.map(part));
		}
		attr(node, "data-tone", tone);
	};
	return node;
}

/** A row of a table of calls, changed in place. */
function callRow(call) {
	const isOver = () => node.call.status === "ended";
	const link = h("a.row-link", { href: callPath(call.call_id) });
	const [stage, tier, dialer, length, routed] = [h("td"), h("td"), h("td"), h("td.num"), h("td.num.muted")];
	const clock = h("sb-clock", { since: call.started_at });
	length.append(clock);
	const node = h("tr", stage, h("td", link), tier, dialer, length, routed);
	node.update = (now) => {
		const same = node.call && JSON.stringify(node.call) === JSON.stringify(now);
		node.call = now;
		if (same) return;
		const [label, tone] = isOver()
			? [words.end(now.disposition), words.endTone(now.disposition)]
			: [words.stage(now.status), words.stageTone(now.status)];
		if (stage.textContent !== label) show(stage, chip(label, tone));
		text(link, phone(now.caller));
		text(
			tier,
			now.tier ? `${now.tier}${now.score === null || now.score === undefined ? "" : ` ${Math.round(now.score)}`}` : "–",
		);
		const where = `${words.line(now, "nobody")}${now.failed_over ? ", failed over" : ""}`;
		if (dialer.textContent !== where)
			show(
				dialer,
				h("span.row", now.dialer && h("span.swatch", { data: { c: colorOf(now.dialer) } }), h("span.cut", where)),
			);
		attr(clock, "until", now.ended_at);
		text(routed, ms(now.routing_ms ?? NaN));
		attr(routed, "class", now.routing_ms > BUDGET_MS ? "num wrong" : "num muted");
	};
	return node;
}

const callTable = (label, body, length) =>
	table(label, ["Stage", "Caller", "Tier", "Dialer", `#${length}`, "#Routed in"], body, "rows fixed calls");

export function live(main, { query, replace }) {
	let window_ = [query.get("window"), recall("window"), "1h"].find((name) => LENGTH_MS[name]);
	let metrics = null;
	let dialers = [];
	let braze = null;
	let quietSince = null;
	/** Open incidents, and how many are on the line; `null` while that is not known. */
	let open = null;
	let onLine = null;
	let lastAt = 0;
	let asking = null;
	const calls = new Map();
	const recent = new Map();

	// The parts of the page, made once.
	const mark = h("div.mark", { "aria-hidden": "true" }, icon("live"));
	const headline = h("strong", "Asking …");
	const since = h("span.muted.small");
	const why = h("p.why");
	const lastCall = h("span", "no call yet");
	const state = h(
		"section.state",
		{ "aria-label": "State", "aria-live": "polite", "aria-atomic": "true" },
		mark,
		h("div", h("p.row.wrap", headline, since), why),
		h("div.side-facts.small.muted", lastCall),
	);
	const figures = {
		hold: kpi("On hold"),
		calls: kpi("Calls"),
		active: kpi("On the line"),
		success: kpi("Success rate"),
		p95: kpi("Routing p95"),
		failed: kpi("Failed"),
		cache: kpi("Cache hits"),
	};
	const trend = new Trend();
	const trendNone = empty(
		"No calls in this window",
		"The first call appears here within a second of its arrival.",
		"live",
	);
	const byDialer = new Bars("Calls by dialer", "No calls in this window.");
	const byTier = new Bars("Calls by tier", "No calls in this window.");
	const byReason = new Bars("Failures by reason", "None.", ["", "Share", "Calls"]);
	const latencies = new Latencies("Latency by stage against the budget");
	const activeBody = h("tbody");
	const activeNone = empty("Nobody is on the line", "Calls appear here as they arrive.", "dialers", true);
	const activeTable = callTable("Calls in progress", activeBody, "Clock");
	const more = h("p.small.muted", { hidden: true });
	const recentBody = h("tbody");
	const recentTable = callTable("Calls that ended last", recentBody, "Length");
	const health = h("ul.health");
	const windows = choices("Window", "window", WINDOWS, window_, choose);
	const keyOf = (name, label) => h("span", h("span", { class: `key ${name}` }), label);

	const body = h(
		"div",
		{ class: "stack figures" },
		h("dl.kpis", Object.values(figures)),
		h(
			"div.grid.even",
			panel(
				"Calls per minute",
				{
					wide: "w8",
					tools: h("div.legend", keyOf("", "calls"), keyOf("bad", "failed"), keyOf("rate", "did not fail")),
				},
				trend.node,
				trendNone,
			),
			h(
				"div.stack.w4.last-grows",
				panel("Dialers and Braze", { flush: true, tools: h("a.small", { href: "/dialers" }, "Details") }, health),
				panel("By dialer", {}, byDialer.node),
			),
		),
		h(
			"div.grid.even",
			panel("On the line", { wide: "w6", flush: true }, activeTable, activeNone, more),
			panel(
				"Ended last",
				{ wide: "w6", flush: true, tools: h("a.small", { href: "/logs" }, "All calls") },
				recentTable,
			),
		),
		h(
			"div.grid.even",
			panel("Latency against the budget", { wide: "w5" }, latencies.node),
			panel("By tier", { wide: "w3" }, byTier.node),
			panel(
				"Failures by reason",
				{ wide: "w4", tools: h("a.small", { href: "/logs?span=24h&outcome=unreached" }, "Callers to call back") },
				byReason.node,
			),
		),
	);
	show(main, head("Live", windows, viewer.isOperator && muteButton()), h("div.stack", state, body));
	figures.hold.hidden = true;
	for (const figure of Object.values(figures)) figure.draw("–", "", "");
	trendNone.hidden = true;

	/** The calls behind a figure of the window. */
	const rowsOf = (filter) => `/logs${asQuery({ from: metrics.from, ...filter })}`;

	function drawFigures() {
		if (!metrics) return;
		const { calls: all, latency, cache, series, success_rate: success, failure_rate: failure } = metrics;
		const each = (share, digits = 1) =>
			share === null ? ["–", ""] : [(share * 100).toFixed(share === 1 ? 0 : digits), "%"];
		const { p95_ms: p95, p99_ms: p99 } = latency.routing;
		const minutes = LENGTH_MS[window_] / 60_000;
		const asked = cache.hit + cache.stale + cache.miss;
		figures.calls.draw(count(all.total), "", `${(all.total / minutes).toFixed(1)} a minute`, null, rowsOf({}));
		figures.success.draw(...each(success), [
			[`${count(all.answered)} answered`, rowsOf({ outcome: "answered" })],
			[`${count(all.abandoned)} hung up`, rowsOf({ outcome: "abandoned" })],
		]);
		figures.p95.draw(
			p95 === null ? "–" : count(Math.round(p95)),
			p95 === null ? "" : "ms",
			`p99 ${ms(p99 ?? NaN)} of ${BUDGET_MS / 1000} s`,
			p95 > BUDGET_MS ? "bad" : p95 > BUDGET_MS * 0.75 ? "warn" : null,
		);
		figures.failed.draw(
			count(all.failed),
			"",
			[
				...(failure === null ? [] : [[each(failure).join(" ")]]),
				[`${count(all.held)} were held`, rowsOf({ held: true })],
			],
			failure > 0.05 ? "bad" : all.failed ? "warn" : null,
			rowsOf({ outcome: "failed" }),
		);
		figures.cache.draw(
			...each(asked ? (cache.hit + cache.stale) / asked : null, 0),
			`${count(cache.stale)} stale, ${count(cache.miss)} asked`,
		);
		trend.node.hidden = all.total === 0;
		trendNone.hidden = all.total > 0;
		if (all.total) trend.draw(series, Date.parse(series[1].at) - Date.parse(series[0].at));
		byDialer.draw(
			metrics.by_dialer.map((row) => ({
				name: row.dialer,
				href: rowsOf({ dialer: row.dialer }),
				words: words.lineName(row.dialer),
				value: row.calls,
				failed: row.failed,
				color: colorOf(row.dialer),
			})),
		);
		byTier.draw(
			metrics.by_tier.map((row) => ({
				name: row.tier ?? "no tier",
				href: rowsOf({ tier: row.tier ?? "none" }),
				value: row.calls,
				failed: row.failed,
				color: "5",
			})),
		);
		byReason.draw(
			metrics.by_reason.map((row) => ({
				name: row.reason,
				href: rowsOf({ failure: row.reason }),
				words: words.reason(row.reason),
				value: row.calls,
				tone: "bad",
			})),
		);
		latencies.draw(
			[
				["routing", "Whole answer"],
				["lookup", "Look-up"],
				["handoff", "Handoff"],
				["commit", "Record on disk"],
			].map(([name, label]) => ({ name, words: label, ...latency[name] })),
			BUDGET_MS,
		);
	}

	function drawCalls() {
		if (!dialers.length) return;
		const inProgress = [...calls.values()].sort((a, b) => (a.started_at < b.started_at ? 1 : -1));
		keyed(activeBody, inProgress.slice(0, ACTIVE), (call) => call.call_id, callRow);
		activeTable.hidden = inProgress.length === 0;
		activeNone.hidden = inProgress.length > 0;
		const left = Math.max(onLine?.active ?? 0, inProgress.length) - ACTIVE;
		more.hidden = left <= 0;
		text(more, `and ${count(left)} more`);
		const ended = [...recent.values()].sort((a, b) => (a.ended_at < b.ended_at ? 1 : -1));
		for (const call of ended.slice(RECENT)) recent.delete(call.call_id);
		const newest = [inProgress[0], ...ended]
			.filter(Boolean)
			.map((call) => call.started_at)
			.sort()
			.at(-1);
		if (newest && lastCall.dataset.at !== newest) {
			lastCall.dataset.at = newest;
			show(lastCall, "last call ", moment(newest, "ago"));
		}
		keyed(recentBody, ended.slice(0, RECENT), (call) => call.call_id, callRow);
	}

	/** How many are on the line now; who waits comes first. */
	function drawOnLine() {
		if (!onLine) return;
		const { active, talking, on_hold: held, on_hold_since: from } = onLine;
		figures.active.draw(count(active), "", active ? `${count(talking)} talking` : "nobody waits");
		figures.hold.hidden = held === 0;
		if (held)
			figures.hold.draw(
				count(held),
				"",
				`longest ${running(Date.now() - Date.parse(from))}`,
				waitsLong() ? "warn" : null,
				"/logs?status=held",
			);
		drawState();
	}

	const waitsLong = () => onLine?.on_hold > 0 && Date.now() - Date.parse(onLine.on_hold_since) > ROUND_MS;

	function drawHealth() {
		const rows = dialers.map((dialer) => ({ ...dialer, id: `d-${dialer.name}` }));
		if (braze) rows.push({ ...braze, id: "braze" });
		keyed(
			health,
			rows,
			(row) => row.id,
			(row) => {
				const [stateBox, below] = [h("span"), h("p.why.cut")];
				const out = h(
					"button.btn.quiet.small",
					{
						"aria-label": `Take out ${row.name}`,
						onclick: async () => {
							const of = dialers.find((one) => one.name === row.name);
							if (of && (await takeOut(of, dialers))) dialersSoon();
						},
					},
					"Take out",
				);
				const node = h(
					"li",
					h(
						"span.row",
						h("span.swatch", { data: row.id === "braze" ? {} : { c: colorOf(row.name) } }),
						h("strong", row.name),
					),
					h("span.row", viewer.isOperator && row.id !== "braze" && out, stateBox),
					below,
				);
				node.update = (now) => {
					const kind = now.state ?? "closed";
					out.hidden = kind === "drained";
					const label = now.id === "braze" && kind === "closed" ? "Answering" : words.dialerState(kind);
					if (stateBox.textContent !== label)
						show(stateBox, chip(label, words.dialerTone(kind), words.dialerIcon(kind)));
					const own = metrics?.by_dialer?.find((one) => one.dialer === now.name);
					const parts = [`circuit ${words.breaker(now.breaker)}`];
					if (now.availability && now.availability !== "unknown") parts.push(now.availability);
					if (now.reason) parts.push(now.reason);
					if (now.since && kind !== "closed") parts.push(`for ${lasting(Date.now() - Date.parse(now.since))}`);
					if (own?.p95_ms) parts.push(`p95 ${ms(own.p95_ms)}`);
					if (now.id === "braze" && metrics?.latency.lookup.p95_ms)
						parts.push(`p95 ${ms(metrics.latency.lookup.p95_ms)}`);
					text(below, parts.join(" · "));
					below.title = now.reason ?? "";
				};
				return node;
			},
		);
	}

	/** Who waits, how many they are and how long the first of them has waited. */
	function waitingWords({ title, waiting, longest_wait_ms: longest }) {
		const who = title.charAt(0).toUpperCase() + title.slice(1);
		return waiting ? `${who} (${count(waiting)}, longest ${running(longest)})` : who;
	}

	function drawState() {
		const isLost = stream.state === "lost";
		// What is not answered any more is not known.
		if (isLost || (!open && state.dataset.state)) {
			state.dataset.state = "lost";
			show(mark, icon("clock"));
			text(headline, "Not known");
			show(since);
			delete since.dataset.at;
			const what = isLost ? `connection since ${timeOf(stream.lostSince)}` : `answer since ${timeOf(alerts.at)}`;
			text(why, `No ${what}: what is below was so then.`);
			return;
		}
		if (!dialers.length || !open || !onLine) return;
		const down = dialers.filter((dialer) => dialer.state !== "closed");
		const bad = braze && braze.state !== "closed" ? [...down, braze] : down;
		const paused = open.find((incident) => incident.kind === "all_dialers_down");
		const told = paused ?? open.find((incident) => incident.kind === "callers_waiting");
		const kind = paused ? "paused" : bad.length || open.length || waitsLong() ? "degraded" : "routing";
		if (state.dataset.state !== kind) {
			state.dataset.state = kind;
			show(mark, icon({ paused: "pause", degraded: "warn", routing: "check" }[kind]));
		}
		const degraded = waitsLong()
			? "Callers wait on hold"
			: down.length === dialers.length
				? "No dialer takes calls"
				: "Routing, but degraded";
		text(headline, told ? waitingWords(told) : { degraded, routing: "Routing" }[kind]);
		const reasons = [];
		if (onLine.on_hold && !told)
			reasons.push([
				onLine.on_hold_since,
				`On hold ${count(onLine.on_hold)}, longest ${running(Date.now() - Date.parse(onLine.on_hold_since))}`,
			]);
		if (told) reasons.push([told.opened_at, told.cause]);
		else
			for (const [ails, those] of Map.groupBy(bad, words.ails))
				reasons.push([those[0].since, `${words.all(those.map(({ name }) => name))}: ${ails}`]);
		for (const incident of open)
			if (incident !== told) reasons.push([incident.opened_at, `${incident.title}: ${incident.cause}`]);
		// "since" is the time of what is told.
		const from = kind === "routing" ? quietSince : (told?.opened_at ?? reasons.find(([at]) => at)?.[0]);
		if (from) {
			if (since.dataset.at !== from) {
				since.dataset.at = from;
				show(since, "since ", moment(from, "clock"));
			}
		} else if (since.dataset.at) {
			delete since.dataset.at;
			show(since);
		}
		text(
			why,
			kind === "routing"
				? `${dialers.length} of ${dialers.length} dialers take calls, no incident is open.`
				: [...new Set(reasons.map(([, said]) => said))].slice(0, 4).join(" · "),
		);
	}

	/** Since when nothing is wrong: the end of the last incident, or the start of what is in force. */
	async function loadSince() {
		const { data } = await get("/settings");
		quietSince = data.loaded_at;
		drawState();
		const last = (await get("/alerts/history?page_size=1")).data[0];
		if (last?.resolved_at > quietSince) quietSince = last.resolved_at;
		drawState();
	}

	async function load(what) {
		try {
			await what();
			lastAt = Date.now();
		} catch (error) {
			if (error.name === "AbortError") return;
			if (!metrics && !lastAt)
				show(
					main,
					head("Live"),
					failed(error, () => location.reload()),
				);
		}
	}

	async function loadMetrics() {
		asking?.abort();
		asking = new AbortController();
		const wanted = window_;
		const { data } = await get(`/calls/metrics?window=${wanted}`, { signal: asking.signal });
		if (wanted !== window_) return;
		metrics = data;
		onLine = data.calls;
		drawFigures();
		drawOnLine();
		drawHealth();
	}

	async function loadCalls() {
		const [active, last] = await Promise.all([
			get("/calls/active?page_size=100"),
			get(`/calls?status=ended&page_size=${RECENT}`),
		]);
		calls.clear();
		for (const call of active.data) calls.set(call.call_id, call);
		for (const call of last.data) recent.set(call.call_id, call);
		drawCalls();
	}

	async function loadDialers() {
		const [list, lookup] = await Promise.all([get("/dialers"), get("/lookup")]);
		dialers = list.data;
		braze = { ...lookup.data, name: "Braze" };
		for (const dialer of dialers) colorOf(dialer.name);
		drawCalls();
		drawHealth();
		drawState();
	}

	let metricsSoon = throttle(() => load(loadMetrics), REFRESH_MS[window_]);
	const dialersSoon = throttle(() => load(loadDialers), 1_000);
	const drawSoon = throttle(() => requestAnimationFrame(drawCalls), 150);

	function choose(value) {
		window_ = value;
		keep("window", value);
		replace(`/?window=${value}`);
		metricsSoon.cancel();
		metricsSoon = throttle(() => load(loadMetrics), REFRESH_MS[value]);
		load(loadMetrics);
	}

	function move(by) {
		const at = WINDOWS.findIndex(([name]) => name === window_) + by;
		windows.querySelector(`input[value="${WINDOWS[at]?.[0]}"]`)?.click();
	}

	const all = async () => {
		// The first colors are theirs.
		await load(loadDialers);
		load(loadMetrics);
		load(loadCalls);
		load(loadSince);
	};
	const ends = [
		hear(["call"], ({ detail }) => {
			if (!detail?.call_id) return;
			lastAt = Date.now();
			if (detail.status === "ended") {
				calls.delete(detail.call_id);
				recent.set(detail.call_id, detail);
			} else if (!words.isElsewhere(detail)) calls.set(detail.call_id, detail);
			drawSoon();
			metricsSoon();
		}),
		hear(["metrics"], ({ detail }) => {
			lastAt = Date.now();
			if (detail?.calls) {
				onLine = detail.calls;
				requestAnimationFrame(drawOnLine);
			}
			if (detail?.window === window_ && detail.series) {
				metrics = detail;
				requestAnimationFrame(drawFigures);
			} else metricsSoon();
		}),
		hear(["dialer"], dialersSoon),
		hear(["alert"], () => load(loadSince)),
		hear(["reset", "poll"], all),
		hear(["state"], drawState),
		alerts.watch((now) => {
			open = now;
			drawState();
		}),
		onShortcut({ "[": () => move(-1), "]": () => move(1), r: all }),
	];
	// Whoever waits, waits longer.
	const watch = setInterval(() => stream.state !== "lost" && drawOnLine(), 1_000);
	// A quiet line still moves the window on, and no event tells of Braze.
	const quiet = setInterval(
		() => !document.hidden && stream.state === "live" && (metricsSoon(), dialersSoon()),
		15_000,
	);
	all();

	return [
		...ends,
		() => {
			clearInterval(watch);
			clearInterval(quiet);
			asking?.abort();
			metricsSoon.cancel();
			dialersSoon.cancel();
			drawSoon.cancel();
			trend.close();
		},
	];
}
