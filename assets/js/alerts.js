// Incidents, open and past: what, why, which calls, which messages; and the test message.

import { get, post, query } from "./api.js";
import { h, keyed, show, throttle } from "./dom.js";
import { timeOf } from "./format.js";
import { acknowledgeButton, callsOf, incidentPath, messageLine, notesOf, stateChip } from "./incident.js";
import { onShortcut } from "./keys.js";
import { muteButton, muteList } from "./quiet.js";
import { alerts as active } from "./state.js";
import { hear, stream } from "./stream.js";
import { busy, empty, failed, ghosts, head, moment, note, pageButton, panel, table, toast } from "./ui.js";
import { viewer } from "./viewer.js";
import * as words from "./words.js";

function incidentRow(incident) {
	const { opened_at: from, resolved_at: to, messages } = incident;
	return h(
		"tr",
		h("td", stateChip(incident)),
		h(
			"th.what",
			{ scope: "row" },
			h("a", { href: incidentPath(incident.id) }, words.capital(incident.title)),
			h("p.small.muted", incident.cause),
			notesOf(incident).map((line) => line && h("p.small.muted", line)),
			!to && h("p.small.muted", incident.advice),
			acknowledgeButton(incident, () => active.refresh()),
		),
		h("td.nowrap", { data: { label: "Opened" } }, moment(from)),
		h("td.nowrap", { data: { label: "Lasted" } }, h("sb-clock", { since: from, until: to, as: "lasting" })),
		h(
			"td",
			{ data: { label: "Calls affected" } },
			incident.calls > 0
				? h("a", { href: `/logs${query({ incident: incident.id })}` }, callsOf(incident.calls))
				: h("span.muted", "none"),
		),
		h(
			"td",
			{ data: { label: "Messages" } },
			messages.length
				? h(
						"ul.checks",
						messages.map((one) => messageLine(one)),
					)
				: h("span.muted", "nobody was told"),
		),
	);
}

const incidents = (label, body) =>
	table(`${label}, in rows`, ["State", "What", "Opened", "Lasted", "Calls affected", "Messages"], body, "stacked");

export function alerts(main) {
	const [openBox, pastBox, outcome] = [h("div", ghosts(2)), h("div", ghosts(4)), h("div", { "aria-live": "polite" })];
	const openBody = h("tbody");
	const test = pageButton("Send a test message", "mail", () => busy(test, sendTest));
	const muted = panel("Muted", {});
	muted.hidden = true;
	show(
		main,
		head("Alerts", viewer.isOperator && muteButton(() => loadMutes()), viewer.isAdmin && test),
		h(
			"div.stack",
			outcome,
			muted,
			panel("Open now", { flush: true }, openBox),
			panel("Past incidents", { flush: true }, pastBox),
		),
	);

	async function sendTest() {
		const { messages } = (await post("/alerts/test")).data;
		const well = messages.every((one) => one.state === "sent");
		const said = well ? "The test message was handed over." : "A test message was not taken yet; it is sent again.";
		show(
			outcome,
			note(
				well ? "ok" : "warn",
				h("strong", said),
				well ? "check" : "warn",
				h(
					"ul.checks",
					messages.map((one) => messageLine(one)),
				),
			),
		);
		toast(well ? "ok" : "bad", said);
	}

	const unwatch = active.watch((open) => {
		if (!open) {
			if (!openBody.isConnected)
				show(
					openBox,
					empty(
						"Not known",
						stream.state === "lost" ? `No connection since ${timeOf(stream.lostSince)}.` : "The server is being asked.",
						"clock",
						true,
					),
				);
			return;
		}
		if (!open.length)
			show(
				openBox,
				empty(
					"Nothing is wrong",
					[
						"Asked at ",
						moment(new Date(active.at).toISOString()),
						". An incident appears here the moment it opens, and leaves when it is over.",
					],
					"check",
					true,
				),
			);
		else if (!openBody.isConnected) show(openBox, incidents("Open incidents", openBody));
		keyed(openBody, open, JSON.stringify, incidentRow);
	});

	async function loadMutes() {
		const mutes = (await get("/alerts/mutes")).data;
		muted.hidden = mutes.length === 0;
		show(muted.lastElementChild, muteList(mutes, viewer.isOperator, loadMutes));
		active.refresh();
	}

	async function load() {
		try {
			loadMutes().catch(() => {});
			const { data } = await get("/alerts/history?page_size=50");
			const past = data.filter((incident) => incident.resolved_at);
			show(
				pastBox,
				past.length
					? incidents("Past incidents", h("tbody", past.map(incidentRow)))
					: empty("No incident so far", "What was open and is over is kept here.", "alerts", true),
			);
		} catch (error) {
			show(pastBox, failed(error, load));
		}
	}

	const soon = throttle(load, 2_000);
	load();
	// That one recovered is no event.
	const watch = setInterval(active.refresh, 5_000);
	return [
		() => clearInterval(watch),
		unwatch,
		hear(["alert", "reset", "poll"], soon),
		soon.cancel,
		onShortcut({ r: load }),
	];
}
