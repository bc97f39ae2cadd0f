// One caller: their calls, the lists they are on, what is remembered of them; put on a list, erased.

import { call as ask, callPath, get, post } from "./api.js";
import { h, show } from "./dom.js";
import { count, phone } from "./format.js";
import { icon } from "./icons.js";
import { onShortcut } from "./keys.js";
import {
	askReveal,
	busy,
	chip,
	dialog,
	empty,
	failed,
	field,
	ghosts,
	head,
	moment,
	panel,
	select,
	table,
	toast,
} from "./ui.js";
import { viewer } from "./viewer.js";
import * as words from "./words.js";

const SHOWN = 50;

export function caller(main, { call: id, title }) {
	let reveal = false;
	const path = `/callers/${encodeURIComponent(id)}`;
	const body = h("div.stack", h("div.panel", h("div.body", ghosts(6))));
	const revealSwitch = askReveal((on) => {
		reveal = on;
		return load();
	});
	show(
		main,
		head("Caller", revealSwitch, h("a.btn", { href: `/logs?caller_id=${id}` }, icon("logs"), "All their calls")),
		body,
	);

	async function load() {
		try {
			const [one, calls, lists] = await Promise.all([
				get(`${path}${reveal ? "?reveal=true" : ""}`),
				get(`/calls?caller_id=${encodeURIComponent(id)}&page_size=${SHOWN}`),
				get("/routing/lists"),
			]);
			draw(one.data, calls, lists.data);
		} catch (error) {
			const gone = error.status === 404 || error.status === 400;
			const known = new Error("There is no such caller, or what was known of them is erased or has passed its time.");
			show(body, h("div.panel", failed(gone ? known : error, gone ? null : load)));
		}
	}

	function draw(one, calls, lists) {
		title(`Caller ${phone(one.caller)}`);
		const fact = (name, ...value) => h("div", h("dt", name), h("dd", ...value));
		const score = Number.isFinite(one.score) ? `${one.tier ?? "no tier"}, score ${one.score}` : (one.tier ?? "none");
		show(
			body,
			h(
				"section.panel",
				{ "aria-label": "Summary" },
				h(
					"header",
					h("h2", phone(one.caller)),
					one.lists.map(({ name }) => chip(name, "accent")),
				),
				h(
					"dl",
					{ class: "facts" },
					fact("Calls", count(one.calls)),
					fact("Answered", count(one.answered)),
					fact("Last call", moment(one.last_call_at, "day")),
					fact("Last dialer", one.last_dialer ? words.lineName(one.last_dialer) : "none yet"),
					fact(
						"Tier as remembered",
						one.fetched_at ? [score, ", of ", moment(one.fetched_at)] : "nothing is remembered",
					),
				),
			),
			h(
				"div.grid",
				panel("Their last calls", { wide: "w8", flush: true }, callTable(calls)),
				h(
					"div.stack.w4",
					panel("Lists", {}, listPart(one, lists)),
					viewer.isAdmin &&
						panel(
							"Erase",
							{},
							h(
								"p.small.muted",
								"Everything that identifies this person becomes unreadable; the records still verify.",
							),
							h(
								"p.spent",
								h("button.btn", { onclick: (event) => busy(event.currentTarget, () => erase(one)) }, "Erase …"),
							),
						),
				),
			),
		);
	}

	const callTable = ({ data, total }) =>
		data.length
			? [
					table(
						"Calls of this caller",
						["Arrived", "Outcome", "Dialer", "Why", "#Length"],
						h(
							"tbody",
							data.map((call) => {
								const over = call.status === "ended";
								const outcome = over
									? chip(words.end(call.disposition), words.endTone(call.disposition))
									: chip(words.stage(call.status), words.stageTone(call.status));
								return h(
									"tr",
									h("td.nowrap", h("a.row-link", { href: callPath(call.call_id) }, moment(call.started_at, "day"))),
									h("td", outcome),
									h("td", { data: { label: "Dialer" } }, words.line(call, "nobody")),
									h("td", { data: { label: "Why" } }, words.reason(call.reason)),
									h("td.num", h("sb-clock", { since: call.started_at, until: call.ended_at })),
								);
							}),
						),
						"rows stacked",
					),
					total > data.length && h("p.small.muted", `The last ${count(data.length)} of ${count(total)}.`),
				]
			: empty("No calls are kept", "They have passed their time.", "logs", true);

	/** The lists that they are on, and, for who may, putting them on one and taking them off. */
	function listPart(one, lists) {
		const on = new Set(one.lists.map(({ name }) => name));
		const left = lists.map(({ name }) => name).filter((name) => !on.has(name));
		let wanted = left[0];
		const why = h("input.input", { maxlength: "500" });
		const add = h("button.btn", { onclick: () => busy(add, put) }, "Put on the list");
		async function put() {
			const said = why.value.trim();
			const entry = { number: `caller:${id}`, ...(said ? { why: said } : {}) };
			await post(`/routing/lists/${encodeURIComponent(wanted)}/entries`, entry);
			toast("ok", `The caller is on the list ${wanted}.`);
			await load();
		}
		async function off({ name, entry }) {
			const at = `/routing/lists/${encodeURIComponent(name)}/entries/${encodeURIComponent(entry)}`;
			await ask(at, { method: "DELETE" });
			toast("ok", `The caller is off the list ${name}.`);
			await load();
		}
		const line = (list) =>
			h(
				"li",
				h(
					"span.grow",
					h("b", list.name),
					!list.entry && ", by the configuration",
					list.until && [", until ", moment(list.until, "day")],
				),
				viewer.isOperator &&
					list.entry &&
					h(
						"button.btn",
						{ "aria-label": `Take off ${list.name}`, onclick: (event) => busy(event.currentTarget, () => off(list)) },
						"Take off",
					),
			);
		return h(
			"div.stack",
			one.lists.length ? h("ul.checks", one.lists.map(line)) : h("p.small.muted", "On no list."),
			viewer.isOperator &&
				left.length > 0 && [
					field(
						"List",
						select(
							left.map((name) => [name, name]),
							wanted,
							(name) => (wanted = name),
						),
					),
					field("Why", why),
					add,
				],
			!lists.length && h("p.small.muted", "The configuration has no lists."),
		);
	}

	async function erase(one) {
		const typed = h("input.input", { autocomplete: "off", spellcheck: "false" });
		const fixed = one.lists.filter(({ entry }) => !entry).map(({ name }) => name);
		const sure = await dialog("Erase this caller?", (close) => {
			const yes = h("button.btn.primary.danger", { disabled: true, onclick: () => close(true) }, "Erase for good");
			typed.addEventListener("input", () => (yes.disabled = typed.value.trim().toLowerCase() !== "erase"));
			return [
				h("p.small", "There is no way back. Backups that were made before still know this caller."),
				fixed.length > 0 && h("p.small", `The configuration still names the number on ${fixed.join(", ")}.`),
				field("Type “erase” to go on", typed),
				h("div.actions", h("button.btn", { onclick: () => close(false) }, "Cancel"), yes),
			];
		});
		if (sure !== true) return;
		await ask(path, { method: "DELETE" });
		toast("ok", "The caller is erased.");
		await load();
	}

	load();
	return [onShortcut({ r: load })];
}
