// The dialers: how each is, since when and why; test, take out, put back.

import { callPath, get, post } from "./api.js";
import { colorOf } from "./live.js";
import { attr, h, keyed, show, text, throttle } from "./dom.js";
import { count, ms, percent } from "./format.js";
import { icon } from "./icons.js";
import { onShortcut } from "./keys.js";
import { hear } from "./stream.js";
import { busy, chip, confirm, empty, failed, ghosts, head, moment, note, pageButton, pair, say, toast } from "./ui.js";
import { viewer } from "./viewer.js";
import * as words from "./words.js";

const KINDS = { dialfire: "Dialfire", zendesk_talk: "Zendesk Talk", http: "HTTP dialer" };

/** A dialer's card, changed in place so that focus and outcomes stay. */
function card(first, changed) {
	let now = first;
	const id = `dialer-${first.name}`;
	const [state, why, facts, outcome, errors] = [h("span"), h("p.small"), h("dl.kv"), h("div", { "aria-live": "polite" }), h("div")];
	const figures = ["Asked, 1 h", "Accepted", "p50", "p95", "p99"].map((name) => [name, h("dd.fig", "–")]);
	const test = pageButton("Test", "flask", () => busy(test, runTest));
	const drain = h("button.btn", { onclick: () => busy(drain, toggle) });
	const node = h(
		"section",
		{ class: "panel", "aria-labelledby": id },
		h("header", h("span.swatch", { data: { c: colorOf(first.name) } }), h("h2", { id }, first.name), state),
		h("div.body.stack", why, h("dl.card-figs", figures.map(([name, value]) => h("div", h("dt", name), value))), facts, errors, outcome),
		viewer.isAdmin && h("div.card-foot", test, drain),
	);

	async function runTest() {
		const { data } = await post(`/dialers/${encodeURIComponent(now.name)}/test`);
		show(outcome, note(data.ok ? "ok" : "bad", h("strong", data.ok ? "The test passed." : "The test failed."), data.ok ? "check" : "warn", h("ul.checks", data.checks.map((check) => h("li", icon(check.ok ? "check" : "cross"), h("span", h("b", check.name), ` ${check.ok ? "passed" : "failed"}: ${check.message}`))))));
	}

	async function toggle() {
		const out = now.state !== "drained";
		const yes = out
			? await confirm(`Take ${now.name} out?`, "It gets no new calls until it is put back. Calls that it has go on.", "Take out", { danger: true })
			: await confirm(`Put ${now.name} back?`, "It gets new calls from the next one on.", "Put back");
		if (!yes) return;
		const { data } = await post(`/dialers/${encodeURIComponent(now.name)}/${out ? "drain" : "resume"}`);
		toast("ok", out ? `${now.name} is taken out: it gets no new calls.` : `${now.name} is back.`);
		changed(data);
	}

	node.update = (dialer) => {
		now = dialer;
		const label = words.dialerState(dialer.state);
		if (state.textContent !== label) show(state, chip(label, words.dialerTone(dialer.state), words.dialerIcon(dialer.state)));
		const reason = dialer.reason ? `${words.capital(dialer.reason)}` : dialer.state === "closed" ? "It answers and takes calls" : label;
		if (why.dataset.key !== reason + dialer.since) {
			why.dataset.key = reason + dialer.since;
			show(why, reason, dialer.since ? [", since ", moment(dialer.since)] : "", ".");
		}
		const { handoffs, success_rate: rate, latency } = dialer;
		[count(handoffs), percent(rate ?? NaN), ...["p50_ms", "p95_ms", "p99_ms"].map((name) => ms(latency[name] ?? NaN))].forEach((value, i) => text(figures[i][1], value));
		const key = JSON.stringify([dialer.breaker, dialer.availability, dialer.connect]);
		if (facts.dataset.key !== key) {
			facts.dataset.key = key;
			show(facts, pair("Kind", KINDS[dialer.kind] ?? dialer.kind), pair("Line", dialer.connect.value), pair("Circuit", words.breaker(dialer.breaker)), pair("Availability", dialer.availability === "unknown" ? "it does not say" : dialer.availability), pair("Timeout", ms(dialer.timeout_ms)), pair("Probed every", ms(dialer.probe_every_ms)));
		}
		const last = dialer.errors ?? [];
		const errorsKey = last.map((record) => record.id).join();
		if (errors.dataset.key !== errorsKey) {
			errors.dataset.key = errorsKey;
			show(errors, last.length > 0 && [h("h3", "Last errors"), h("ul.checks", last.map((record) => h("li", icon("cross"), h("span", moment(record.at), ` ${words.failure(record.detail.kind)}${record.detail.status ? ` (${record.detail.status})` : ""} `, record.call_id && h("a", { href: callPath(record.call_id) }, "call")))))]);
		}
		show(drain, icon(dialer.state === "drained" ? "play" : "pause"), dialer.state === "drained" ? "Put back" : "Take out");
		attr(drain, "class", dialer.state === "drained" ? "btn primary" : "btn");
	};
	return node;
}

export function dialers(main) {
	let list = [];
	let errors = [];
	const cards = h("div.cards");
	const body = h("div", h("div.panel", h("div.body", ghosts(5))));
	show(main, head("Dialers", h("sb-connection")), body);

	function draw() {
		if (!list.length) {
			show(body, h("div.panel", empty("No dialers", "The configuration names none.", "dialers")));
			return;
		}
		if (!cards.isConnected) show(body, cards);
		const filled = list.map((dialer) => ({ ...dialer, errors: errors.filter((record) => record.detail.dialer === dialer.name).slice(0, 3) }));
		keyed(cards, filled, (dialer) => dialer.name, (dialer) => card(dialer, replace));
	}

	function replace(dialer) {
		list = list.map((one) => (one.name === dialer.name ? dialer : one));
		draw();
	}

	async function load() {
		try {
			list = (await get("/dialers")).data;
			draw();
			const failures = await get("/logs?kind=handoff_concluded&severity=warn&page_size=20");
			errors = failures.data.filter((record) => record.detail?.outcome !== "accepted");
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
	return [hear(["dialer"], told), hear(["call", "reset", "poll"], soon), soon.cancel, onShortcut({ r: load })];
}
