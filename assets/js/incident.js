// One incident: what it is, whom it met, who was told, and what to do.

import { callPath, get, post, query } from "./api.js";
import { h, show, throttle } from "./dom.js";
import { count } from "./format.js";
import { icon } from "./icons.js";
import { onShortcut } from "./keys.js";
import { muteButton, quietBy } from "./quiet.js";
import { hear } from "./stream.js";
import { busy, chip, failed, ghosts, head, moment, note, pageButton, pair, panel } from "./ui.js";
import { viewer } from "./viewer.js";
import * as words from "./words.js";

export const incidentPath = (id) => `/alerts/${encodeURIComponent(id)}`;
export const callsOf = (n) => (n === 1 ? "1 call" : `${count(n)} calls`);

export const stateChip = ({ status, recovered_at: well }) =>
	status === "resolved"
		? chip("Resolved", "ok", "check")
		: well
			? chip("Recovered", "warn", "clock")
			: chip("Open", "bad", "warn");

export const notesOf = ({ acknowledged, muted, status, recovered_at: well, closes_at: closes }) => [
	well && ["Recovered ", moment(well, "ago"), ", closes at ", moment(closes), "."],
	acknowledged && ["Acknowledged by ", acknowledged.by, " at ", moment(acknowledged.at), "."],
	muted && [status === "open" ? "Nobody is told, " : "Nobody was told, ", quietBy(muted), "."],
];

export function acknowledgeButton({ id, title, status, acknowledged }, changed) {
	if (status !== "open" || acknowledged || !viewer.isOperator) return false;
	const button = pageButton("Acknowledge", "check", () =>
		busy(button, async () => changed((await post(`${incidentPath(id)}/acknowledge`)).data)),
	);
	button.setAttribute("aria-label", `Acknowledge: ${title}`);
	return button;
}

/** A message; with `at` also when, and what went wrong. */
export const messageLine = ({ occasion, channel, recipient, state, error, ...times }, at) =>
	h(
		"li.row.wrap.small",
		icon(channel === "email" ? "mail" : "send"),
		at && moment(times.sent_at ?? times.created_at),
		`${words.plain(occasion)} to ${recipient}`,
		chip(words.plain(state), { sent: "ok", dead: "bad", superseded: "" }[state] ?? "warn"),
		error && h("span.muted", error),
	);

function draw(main, incident, changed) {
	const { id, opened_at: from, resolved_at: to, call_ids: ids, reasons, messages } = incident;
	const isOpen = incident.status === "open";
	const about = incident.dialers.length || !incident.dialer ? incident.dialers : [incident.dialer];
	show(
		main,
		head(
			words.capital(incident.title),
			acknowledgeButton(incident, changed),
			isOpen && viewer.isOperator && muteButton(changed, incident),
		),
		h(
			"div.stack",
			panel(
				"What is wrong",
				{ tools: stateChip(incident) },
				h(
					"div.stack",
					h("p", `${words.capital(incident.cause)}.`),
					notesOf(incident).map((line) => line && h("p.small", line)),
					isOpen && note("info", incident.advice),
					h(
						"dl.kv",
						pair("Severity", incident.severity),
						pair("Opened", moment(from, "full")),
						to && pair("Resolved", moment(to, "full")),
						pair("Lasted", h("sb-clock", { since: from, until: to, as: "lasting" })),
						about.length > 0 &&
							pair(
								"Dialers",
								about.map((name, i) => [i ? ", " : "", h("a", { href: "/dialers" }, name)]),
							),
						incident.rule && pair("Rule", h("a", { href: "/settings" }, incident.rule)),
					),
				),
			),
			panel(
				"Whom it met",
				{},
				incident.calls > 0
					? h(
							"div.stack",
							h("p", h("a", { href: `/logs${query({ incident: id })}` }, `All ${callsOf(incident.calls)}`)),
							reasons.length > 0 &&
								h(
									"p.small.muted",
									reasons.map((one) => `${words.reason(one.reason)}: ${count(one.calls)}`).join(" · "),
								),
							h(
								"p.row.wrap",
								ids.map((call) => h("a.tiny.mono", { href: callPath(call) }, `…${call.slice(-8)}`)),
							),
						)
					: h("p.small.muted", "No caller."),
			),
			panel(
				"Who was told",
				{},
				messages.length
					? h(
							"ul.checks",
							messages.map((one) => messageLine(one, true)),
						)
					: h("p.small.muted", "Nobody."),
			),
		),
	);
}

export function incident(main, { call: id, title }) {
	let known = "";
	show(main, head("Incident"), h("div.panel", h("div.body", ghosts(6))));
	async function load() {
		try {
			const { data } = await get(incidentPath(id));
			title(words.capital(data.title));
			const { duration_ms: _, ...rest } = data;
			if (known === JSON.stringify(rest)) return;
			known = JSON.stringify(rest);
			draw(main, data, load);
		} catch (error) {
			if (!known) show(main, head("Incident"), h("div.panel", failed(error, error.status === 404 ? null : load)));
		}
	}
	const soon = throttle(load, 1_000);
	load();
	// That it recovered is no event.
	const watch = setInterval(soon, 5_000);
	return [() => clearInterval(watch), hear(["alert", "reset", "poll"], soon), soon.cancel, onShortcut({ r: load })];
}
