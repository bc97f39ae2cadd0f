// One call from arrival to end: in words, against the budget, with the raw records one click away.

import { callPath, get, query } from "./api.js";
import { h, show, throttle } from "./dom.js";
import { ms, phone, running } from "./format.js";
import { icon } from "./icons.js";
import { onShortcut } from "./keys.js";
import { summary } from "./logs.js";
import { hear } from "./stream.js";
import { askReveal, chip, failed, ghosts, head, moment, panel, raw, table } from "./ui.js";
import * as words from "./words.js";

/** How a step of a decision is marked. */
function markOf(step) {
	switch (step.step) {
		case "lookup":
			return [{ known: "ok", unavailable: "warn" }[step.lookup?.outcome], "search"];
		case "tier":
			return [step.tier ? "accent" : "", "person"];
		case "rule":
			return step.verdict?.is === "matched" ? ["ok", "check"] : ["dim", "cross"];
		case "planned":
			return ["ok", "plug"];
		case "skipped":
			return ["warn", "skip"];
		default:
			return ["", "fork"];
	}
}

const entry = ([tone, name], ...content) =>
	h("li", { class: tone === "dim" ? "dim" : null, data: tone && tone !== "dim" ? { tone } : {} }, icon(name), content);

/** A decision chain as a list of sentences. */
export const decisionList = (steps) =>
	h(
		"ol.steps",
		steps.map((step) =>
			entry(
				markOf(step),
				step.step === "planned" && !step.line_only
					? `${step.order === 1 ? "Asked first" : `Asked as number ${step.order}`}: ${step.dialer}.`
					: step.text,
			),
		),
	);

/** Where the time of the first answer went, as bars on one scale. */
function waterfall({ answers, handoffs, decisions, exchanges }) {
	const first = answers[0];
	if (!first) return h("p.small.muted", "No answer is recorded yet.");
	const [total, budget] = [first.total_ms, first.budget_ms];
	const start = Date.parse(first.at) - total;
	const after = (at) => Math.min(total, Math.max(0, Date.parse(at) - start));
	const decided = decisions[0];
	const asked = exchanges.find((one) => one.service === "braze");
	const lookup = decided?.facts?.lookup ?? {};
	const source =
		{ fresh: "cache", stale: "stale cache", fetched: "asked" }[lookup.source] ?? words.plain(lookup.outcome);
	const bars = [
		{
			icon: "search",
			name: `Look-up, ${source}`,
			from: 0,
			length: asked ? Math.max(asked.elapsed_ms, first.lookup_ms) : first.lookup_ms,
			tone: lookup.outcome === "unavailable" ? "warn" : "lookup",
		},
	];
	if (decided)
		bars.push({ icon: "fork", name: "Decision", from: Math.min(total, first.lookup_ms), length: 0, tone: "total" });
	for (const one of handoffs.filter((one) => one.at <= first.at)) {
		const from = Math.max(0, after(one.at) - one.elapsed_ms);
		bars.push({
			icon: "plug",
			name: `${one.dialer}${one.attempt > 1 ? ", again" : ""}`,
			from,
			length: Math.min(one.elapsed_ms, total - from),
			tone: one.outcome.outcome === "accepted" ? "ok" : "bad",
		});
	}
	bars.push({
		icon: "check",
		name: "Whole answer",
		from: 0,
		length: total,
		tone: first.within_budget ? "total" : "bad",
	});
	// A quick answer is not squeezed into a sliver: the scale is the smallest of these that holds it.
	const scale = [20, 50, 100, 200, 500, 1_000, budget].find((one) => total <= one) ?? total;
	const share = (length) => `${(100 * Math.min(1, length / scale)).toFixed(2)}%`;
	const lanes = bars.map((bar) => {
		const line = h("i", { data: { tone: bar.tone } });
		line.style.left = share(Math.min(bar.from, scale * 0.992));
		line.style.width = share(bar.length);
		return h(
			"div.lane",
			{ role: "listitem" },
			h("span.name", icon(bar.icon), h("span.cut", bar.name)),
			h("span.span", line),
			h("span.took.fig", bar.length ? ms(bar.length) : `at ${ms(bar.from)}`),
		);
	});
	const marks = [0, 0.5, 1].map((part) => {
		const mark = h("span", part ? ms(scale * part) : "0");
		mark.style.left = `${part * 100}%`;
		return mark;
	});
	const used = (100 * total) / budget;
	return [
		h(
			"div.fall",
			{ role: "list", "aria-label": "Where the time went" },
			lanes,
			h("div.lane", { role: "presentation", "aria-hidden": "true" }, h("span"), h("span.scale", marks), h("span")),
		),
		h(
			"div.row.spent",
			h("div.bar.grow", { role: "img", "aria-label": `${ms(total)} of the budget of ${ms(budget)}` }, spent(used)),
			h(
				"span.small.muted.nowrap",
				first.within_budget ? `${ms(total)} of ${ms(budget)} budget` : `${ms(total)}: over the budget of ${ms(budget)}`,
			),
		),
	];
}

function spent(percent) {
	const fill = h("div", { class: percent > 100 ? "fill bad" : "fill", data: { c: "2" } });
	fill.style.transform = `scaleX(${Math.min(1, Math.max(0.004, percent / 100))})`;
	return fill;
}

const exchange = (one) =>
	h(
		"details",
		h("summary", `${one.method} ${one.url}: ${one.status ?? one.error ?? "no answer"}, ${ms(one.elapsed_ms)}`),
		h(
			"pre",
			{ tabindex: "0", "aria-label": "Request and answer" },
			JSON.stringify({ request: one.request, status: one.status, error: one.error, response: one.response }, null, 2),
		),
	);

const counted = (disposition) => `“${words.end(disposition).toLowerCase()}”`;

/** What one record tells of: a decision may hold the first request to a dialer, an answer the last one. */
function steps(record) {
	const { intended, attempt } = record.detail;
	if (record.kind === "call_decided" && intended)
		return [record, { ...record, kind: "handoff_intended", detail: intended }];
	if (record.kind === "call_answered" && attempt)
		return [{ ...record, kind: "handoff_concluded", detail: attempt }, record];
	return [record];
}

/** Records in groups: answers that hold the caller and follow each other are one. */
function folded(records) {
	const groups = [];
	const holds = ({ kind, detail }) => kind === "call_answered" && detail.answer.is === "hold";
	for (const record of records) {
		const group = groups.at(-1);
		if (group && holds(record) && holds(group[0])) group.push(record);
		else groups.push([record]);
	}
	return groups;
}

/** A record as an entry of the story: its mark, its sentence and what hangs below. */
function story({ kind, detail, at }, answers) {
	switch (kind) {
		case "call_decided":
			return [
				["accent", "fork"],
				`The call arrived${detail.door === "api" ? " through the API" : ""} and was decided: ` +
					`${words.plan(detail) || "nobody can take it now"}.`,
				detail.lookup_exchange && exchange(detail.lookup_exchange),
			];
		case "call_adopted": {
			const from = detail.from ? ` from ${detail.from}` : "";
			const why = detail.was_known ? "its record here was older" : "it has no record here";
			return [["warn", "fork"], `The call goes on${from} by its passport: ${why}.`];
		}
		case "handoff_intended":
			return [
				["", "arrow"],
				`Asking ${detail.dialer}${detail.attempt > 1 ? " once more" : ""}; it has ${ms(detail.timeout_ms)}.`,
			];
		case "handoff_concluded": {
			const well = detail.outcome === "accepted";
			const reference = detail.reference ? `, reference ${detail.reference}` : "";
			const status = detail.status ? ` (${detail.status})` : "";
			const cause = detail.kind ? `: ${words.failure(detail.kind)}${status}` : "";
			return [
				[well ? "ok" : "bad", well ? "check" : "cross"],
				`${detail.dialer} ${words.outcome(detail.outcome)}${reference}${cause}.`,
				(detail.exchanges ?? []).map(exchange),
			];
		}
		case "call_answered": {
			const { answer, stages, within_budget: within = true, step } = detail;
			const certainty =
				{ confirmed: "", unannounced: " unannounced: its line rings without the note" }[answer.certainty] ??
				", although it has not confirmed";
			const what =
				{
					connect: `connect to ${answer.dialer}${certainty}`,
					hold: "hold the caller",
					last_resort: "dial the last-resort number",
					goodbye: "say goodbye and hang up",
					number: "dial the number of the rule",
					rejected: "refuse the call",
					message: "speak the message of the rule and hang up",
					closed: "say that nobody is there at this hour, or dial the number for that",
					nothing: "nothing more to do",
				}[answer.is] ?? words.plain(answer.is);
			const given = answers.find((one) => one.at === at && one.step === step)?.twiml;
			return [
				["last_resort", "goodbye"].includes(answer.is) || !within
					? ["bad", "send"]
					: [answer.is === "hold" ? "warn" : "ok", "send"],
				`Twilio is told: ${what}, after ${ms(stages?.total_ms)}${within ? "" : ", later than the budget"}.`,
				given &&
					h("details", h("summary", "TwiML as given"), h("pre", { tabindex: "0", "aria-label": "TwiML" }, given)),
			];
		}
		case "leg_reported": {
			const { report, status } = detail;
			const leg = report.dialer ? `The line of ${report.dialer}` : words.party(detail, "The caller's leg");
			return [[status === "bridged" ? "ok" : "", "dialers"], `${leg}: ${words.leg(report.status)}.`];
		}
		case "dial_ended": {
			const { report, disposition } = detail;
			const how = report.caller_gone ? "the caller hung up" : words.plain(report.end);
			const counts = disposition ? `. The call counts as ${counted(disposition)}` : "";
			return [
				[disposition === "answered" ? "ok" : "warn", "out"],
				`The dial of ${report.dialer ?? "the last resort"} ended: ${how}${counts}.`,
			];
		}
		case "call_reaped":
			return [
				["warn", "search"],
				detail.found.is === "unasked"
					? "Its end was never reported; it was closed."
					: "Its end was never reported; it was looked up and closed.",
			];
		case "call_ended": {
			const after = detail.talked_s ? `, after ${detail.talked_s} s` : "";
			const how = words.end(detail.outcome).toLowerCase();
			return [["", "out"], `Whoever brought the call says how it ended: ${how}${after}.`];
		}
		case "call_corrected":
			return [
				["warn", "out"],
				`By what was reported late, the call counts as ${counted(detail.to)}, not as ${counted(detail.from)}.`,
			];
		default:
			return [["", "info"], `${words.kind(kind)}: ${summary({ kind, detail })}.`];
	}
}

const again = ({ score, called, started_at: at }) => {
	const to = /^(\+\d+|sip:\S+)$/.test(called ?? "") ? called : null;
	return `/rules${query({ score, to, at: at && new Date(at).toISOString() })}`;
};

export function trace(main, { call: id, title }) {
	let reveal = false;
	let shown = false;
	const revealSwitch = askReveal((on) => {
		reveal = on;
		return load();
	});
	const body = h("div.stack", h("div.panel", h("div.body", ghosts(6))));
	show(main, head("Call", revealSwitch, h("a.btn", { href: "/logs" }, icon("back"), "All calls")), body);

	async function load() {
		try {
			const { data } = await get(callPath(id));
			if (reveal) data.call = (await get(`/calls/${encodeURIComponent(id)}?reveal=true`)).data;
			draw(data);
		} catch (error) {
			if (error.status === 404 || error.status === 400)
				show(body, h("div.panel", failed(new Error("There is no such call, or its records have passed their time."))));
			else if (!shown) show(body, h("div.panel", failed(error, load)));
		}
	}

	function draw(data) {
		const call = data.call ?? {};
		const decision = data.decisions.at(-1);
		const isEnded = call.status === "ended";
		shown = true;
		title(`Call of ${call.caller ? phone(call.caller) : "a withheld number"}`);
		const fact = (name, ...value) => h("div", h("dt", name), h("dd", ...value));
		const facts = h(
			"dl",
			{ class: "facts" },
			fact(
				"State",
				h(
					"span.row.wrap",
					isEnded
						? chip(words.end(call.disposition), words.endTone(call.disposition))
						: chip(words.stage(call.status), words.stageTone(call.status)),
					call.failed_over && chip("failed over", "warn"),
					call.held && chip("was held", "held"),
				),
			),
			fact(
				"Caller",
				call.caller_id ? h("a", { href: `/callers/${call.caller_id}` }, phone(call.caller)) : phone(call.caller),
			),
			fact("Called", phone(call.called)),
			fact("Arrived", moment(call.started_at, "day")),
			fact("Length", h("sb-clock", { since: call.started_at, until: call.ended_at })),
			fact("Tier", call.tier ? `${call.tier}${Number.isFinite(call.score) ? `, score ${call.score}` : ""}` : "none"),
			fact("Dialer", words.line(call, "nobody")),
			fact("Rule", h("a", { href: `/logs${query({ rule: call.rule ?? "(default)" })}` }, call.rule ?? "the default")),
			fact("Routed in", ms(call.routing_ms ?? NaN)),
			fact("Why", words.reason(call.reason)),
		);
		const legRow = (leg) =>
			h(
				"tr",
				h("th", { scope: "row" }, words.line(leg, leg.direction === "inbound" ? "Caller" : "unknown")),
				h("td", chip(words.plain(leg.end_reason ?? leg.status), leg.status === "answered" ? "ok" : "")),
				[
					["Rang", "ringing_at"],
					["Answered", "answered_at"],
					["Ended", "ended_at"],
				].map(([label, name]) => h("td", { data: { label } }, moment(leg[name]))),
				h("td.num", { data: { label: "Talked" } }, Number.isFinite(leg.duration_s) ? `${leg.duration_s} s` : "–"),
			);
		const legs = table(
			"Legs as table",
			["Leg", "State", "Rang", "Answered", "Ended", "#Talked"],
			h("tbody", (call.legs ?? []).map(legRow)),
			"stacked",
		);
		const told = (record) => {
			const [mark, said, ...below] = story(record, data.answers);
			return entry(mark, moment(record.at), said, below);
		};
		const entries = folded(data.records.flatMap(steps)).map((records) => {
			const [first, last] = [records[0], records.at(-1)];
			if (records.length === 1) return told(first);
			const long = running(Date.parse(last.at) - Date.parse(first.at));
			return entry(
				["warn", "clock"],
				moment(first.at),
				`Held ${long}, asked ${records.length} times.`,
				h("details", h("summary", "Every time"), h("ol.steps", records.map(told))),
			);
		});
		const skipped = decision?.skipped?.filter((one) => one.change) ?? [];
		show(
			body,
			h(
				"section.panel",
				{ "aria-label": "Summary" },
				h(
					"header",
					h("h2", call.caller ? phone(call.caller) : "Withheld number"),
					h("span.mono.tiny.muted.cut", data.call_id),
				),
				facts,
			),
			h(
				"div.grid",
				panel("Where the time went", { wide: "w7" }, waterfall(data)),
				panel(
					"The decision",
					{ wide: "w5" },
					decision ? decisionList(decision.trace) : h("p.small.muted", "It is not decided yet."),
					skipped.map((one) => h("p.small.muted", `${one.dialer} would be asked: ${one.change}.`)),
					h("a", { class: "small", href: again(call) }, "Explain again with today's rules"),
				),
			),
			h(
				"div.grid",
				panel("What happened", { wide: "w7" }, h("ol.steps", entries)),
				h(
					"div.stack.w5",
					panel("Legs", { flush: true }, call.legs?.length ? legs : h("p.empty.slim", "No leg was reported yet.")),
					panel(
						"Raw data",
						{},
						raw("The call", call),
						raw("The trace", { ...data, records: undefined, call: undefined }),
						raw("Its records", data.records),
					),
				),
			),
		);
	}

	const soon = throttle(load, 1_000);
	load();
	return [
		hear(["call"], ({ detail }) => detail?.call_id === id && soon()),
		hear(["reset", "poll"], soon),
		soon.cancel,
		onShortcut({ r: load }),
	];
}
