// The dialers: how each is, since when and why; test, take out, put back.

import { callPath, get, post } from "./api.js";
import { colorOf } from "./live.js";
import { attr, h, keyed, show, text, throttle } from "./dom.js";
import { count, ms, percent } from "./format.js";
import { icon } from "./icons.js";
import { onShortcut } from "./keys.js";
import { quietBy, takeOut } from "./quiet.js";
import { hear } from "./stream.js";
import { busy, chip, confirm, empty, failed, ghosts, head, moment, note, pageButton, pair, say, toast } from "./ui.js";
import { dayFigures } from "./figures.js";
import { viewer } from "./viewer.js";
import * as words from "./words.js";

const KINDS = { dialfire: "Dialfire", zendesk_talk: "Zendesk Talk", http: "HTTP dialer" };

/** What is refused, and when it is tried again. */
const refusal = ({ credential, times, next_try_at: next, tried_by: by }) =>
	note(
		"bad",
		h("strong", `It refuses ${credential}`),
		"keys",
		h(
			"p.small",
			times > 1 ? `${count(times)} times in a row. ` : "",
			by === "call"
				? ["The first call after ", moment(next), " tries it again."]
				: ["It is tried again at ", moment(next), "."],
		),
	);

/** The last requests that a dialer did not take: each has a record of its own, or stands in that of the answer. */
async function failedRequests() {
	const asked = [
		"kind=handoff_concluded&severity=warn",
		"kind=call_answered&severity=warn",
		"kind=call_answered&severity=error",
	];
	const answers = await Promise.all(asked.map((one) => get(`/logs?${one}&page_size=20`)));
	return answers
		.flatMap(({ data }) => data)
		.map((record) => (record.kind === "call_answered" ? { ...record, detail: record.detail.attempt ?? {} } : record))
		.filter(({ detail }) => detail.outcome && detail.outcome !== "accepted")
		.sort((one, other) => other.id - one.id);
}

/** Asks for a try of refused credentials, and says what came of it. */
async function retry(path, name, changed) {
	const { data } = await post(path);
	const well = !data.refused;
	toast(
		well ? "ok" : "bad",
		well
			? `${name} accepts its credentials.`
			: data.refused.tried_by === "call"
				? `The next call tries ${name}.`
				: `${name} still refuses its credentials.`,
	);
	changed(data);
}

/** Braze's card. */
function brazeCard(changed) {
	const [state, why, refused] = [h("span"), h("p.small"), h("div")];
	const again = pageButton("Try now", "reload", () => busy(again, () => retry("/lookup/retry", "Braze", changed)));
	const foot = h("div.card-foot", again);
	const node = h(
		"section",
		{ class: "panel", "aria-labelledby": "lookup" },
		h("header", h("span.swatch"), h("h2#lookup", "Braze"), state),
		h("div.body.stack", why, refused),
		viewer.isOperator && foot,
	);
	node.update = (braze) => {
		const key = JSON.stringify(braze);
		if (node.dataset.key === key) return;
		node.dataset.key = key;
		const well = braze.state === "closed";
		show(
			state,
			chip(
				well ? "Answering" : words.dialerState(braze.state),
				words.dialerTone(braze.state),
				words.dialerIcon(braze.state),
			),
		);
		show(
			why,
			well
				? "Callers are looked up."
				: ["Callers are not looked up: ", braze.reason, braze.since ? [", since ", moment(braze.since)] : "", "."],
		);
		show(refused, braze.refused && refusal(braze.refused));
		foot.hidden = !braze.refused;
	};
	return node;
}

/** A dialer's card, changed in place so that focus and outcomes stay. */
function card(first, changed, all) {
	let now = first;
	const id = `dialer-${first.name}`;
	const [state, why, facts, outcome, errors, refused] = [
		h("span"),
		h("p.small"),
		h("dl.kv"),
		h("div", { "aria-live": "polite" }),
		h("div"),
		h("div"),
	];
	const figures = ["Asked, 1 h", "Accepted", "p50", "p95", "p99"].map((name) => [name, h("dd.fig", "–")]);
	const test = pageButton("Test", "flask", () => busy(test, runTest));
	const drain = h("button.btn", { onclick: () => busy(drain, toggle) });
	const again = pageButton("Try now", "reload", () =>
		busy(again, () => retry(`/dialers/${encodeURIComponent(now.name)}/retry`, now.name, changed)),
	);
	const node = h(
		"section",
		{ class: "panel", "aria-labelledby": id },
		h("header", h("span.swatch", { data: { c: colorOf(first.name) } }), h("h2", { id }, first.name), state),
		h(
			"div.body.stack",
			why,
			refused,
			h(
				"dl.card-figs",
				figures.map(([name, value]) => h("div", h("dt", name), value)),
			),
			facts,
			errors,
			outcome,
		),
		viewer.isOperator && h("div.card-foot", again, viewer.isAdmin && test, drain),
	);

	async function runTest() {
		const { data } = await post(`/dialers/${encodeURIComponent(now.name)}/test`);
		show(
			outcome,
			note(
				data.ok ? "ok" : "bad",
				h("strong", data.ok ? "The test passed." : "The test failed."),
				data.ok ? "check" : "warn",
				h(
					"ul.checks",
					data.checks.map((check) =>
						h(
							"li",
							icon(check.ok ? "check" : "cross"),
							h("span", h("b", check.name), ` ${check.ok ? "passed" : "failed"}: ${check.message}`),
						),
					),
				),
			),
		);
	}

	async function toggle() {
		if (now.state !== "drained") {
			const out = await takeOut(now, all());
			if (out) changed(out);
			return;
		}
		if (!(await confirm(`Put ${now.name} back?`, "It gets new calls from the next one on.", "Put back"))) return;
		const { data } = await post(`/dialers/${encodeURIComponent(now.name)}/resume`);
		toast("ok", `${now.name} is back.`);
		changed(data);
	}

	node.update = (dialer) => {
		now = dialer;
		const label = words.dialerState(dialer.state);
		if (state.textContent !== label)
			show(state, chip(label, words.dialerTone(dialer.state), words.dialerIcon(dialer.state)));
		const reason = dialer.reason
			? `${words.capital(dialer.reason)}`
			: dialer.state === "closed"
				? "It answers and takes calls"
				: label;
		const { drained } = dialer;
		const whyKey = JSON.stringify([reason, dialer.since, drained]);
		if (why.dataset.key !== whyKey) {
			why.dataset.key = whyKey;
			const since = dialer.since ? [", since ", moment(dialer.since)] : "";
			show(why, drained ? ["Taken out ", quietBy(drained)] : reason, since, ".");
		}
		const refusedKey = JSON.stringify(dialer.refused);
		if (refused.dataset.key !== refusedKey) {
			refused.dataset.key = refusedKey;
			show(refused, dialer.refused && refusal(dialer.refused));
			again.hidden = !dialer.refused;
		}
		const { handoffs, success_rate: rate, latency } = dialer;
		[
			count(handoffs),
			percent(rate ?? NaN),
			...["p50_ms", "p95_ms", "p99_ms"].map((name) => ms(latency[name] ?? NaN)),
		].forEach((value, i) => text(figures[i][1], value));
		const key = JSON.stringify([dialer.breaker, dialer.availability, dialer.connect]);
		if (facts.dataset.key !== key) {
			facts.dataset.key = key;
			show(
				facts,
				pair("Kind", KINDS[dialer.kind] ?? dialer.kind),
				pair("Line", dialer.connect.value),
				pair("Circuit", words.breaker(dialer.breaker)),
				pair("Availability", dialer.availability === "unknown" ? "it does not say" : dialer.availability),
				pair("Timeout", ms(dialer.timeout_ms)),
				pair("Probed every", ms(dialer.probe_every_ms)),
			);
		}
		const last = dialer.errors ?? [];
		const errorsKey = last.map((record) => record.id).join();
		if (errors.dataset.key !== errorsKey) {
			errors.dataset.key = errorsKey;
			show(
				errors,
				last.length > 0 && [
					h("h3", "Last errors"),
					h(
						"ul.checks",
						last.map((record) =>
							h(
								"li",
								icon("cross"),
								h(
									"span",
									moment(record.at),
									` ${words.failure(record.detail.kind)}${record.detail.status ? ` (${record.detail.status})` : ""} `,
									record.call_id && h("a", { href: callPath(record.call_id) }, "call"),
								),
							),
						),
					),
				],
			);
		}
		show(
			drain,
			icon(dialer.state === "drained" ? "play" : "pause"),
			dialer.state === "drained" ? "Put back" : "Take out",
		);
		attr(drain, "class", dialer.state === "drained" ? "btn primary" : "btn");
	};
	return node;
}

export function dialers(main) {
	let list = [];
	let errors = [];
	let braze = null;
	const cards = h("div.cards");
	const figures = dayFigures();
	const body = h("div", h("div.panel", h("div.body", ghosts(5))));
	show(main, head("Dialers", h("sb-connection")), body);

	function draw() {
		if (!list.length) {
			show(body, h("div.panel", empty("No dialers", "The configuration names none.", "dialers")));
			return;
		}
		if (!cards.isConnected) show(body, cards, figures.node);
		const filled = list.map((dialer) => ({
			...dialer,
			errors: errors.filter((record) => record.detail.dialer === dialer.name).slice(0, 3),
		}));
		// No dialer can have this name: there is a blank in it.
		const all = braze ? [...filled, { ...braze, name: "the look-up" }] : filled;
		keyed(
			cards,
			all,
			(one) => one.name,
			(one) => (one.name === "the look-up" ? brazeCard(changedBraze) : card(one, replace, () => list)),
		);
	}

	function changedBraze(changed) {
		braze = changed;
		draw();
	}

	function replace(dialer) {
		list = list.map((one) => (one.name === dialer.name ? dialer : one));
		draw();
	}

	async function load() {
		try {
			[list, braze] = (await Promise.all([get("/dialers"), get("/lookup")])).map((answer) => answer.data);
			draw();
			figures.load();
			errors = await failedRequests();
			draw();
		} catch (error) {
			if (!list.length) show(body, h("div.panel", failed(error, load)));
		}
	}

	const soon = throttle(load, 5_000);
	const told = ({ detail }) => {
		const known = list.find((dialer) => dialer.name === detail?.name);
		if (!known) return;
		if (known.state !== detail.state) say(`${detail.name}: ${words.dialerState(detail.state)}`);
		replace(detail);
	};
	load();
	// No event tells of Braze.
	const looking = setInterval(soon, 10_000);
	return [
		() => clearInterval(looking),
		hear(["dialer"], told),
		hear(["call", "reset", "poll"], soon),
		soon.cancel,
		onShortcut({ r: load }),
	];
}
