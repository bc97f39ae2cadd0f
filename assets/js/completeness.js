// Whether every call that Twilio had stands in the log: the days that were compared, and what was found.

import { callPath, get } from "./api.js";
import { h, show } from "./dom.js";
import { count } from "./format.js";
import { empty, failed, fill, moment, panel, table } from "./ui.js";

const PAGE = 50;
const FOUND = {
	elsewhere: "missing: its number leads elsewhere",
	down: "missing: nothing ran here",
	unreachable: "missing: Twilio could not connect",
	refused: "missing: Twilio had no answer that it could use",
	records_gone: "missing: its records are gone",
	unexplained: "missing: Twilio met no error; the webhook went elsewhere, or what was recorded is gone",
	fallback: "answered at the fallback URL",
	unlisted: "not at Twilio",
	end_differs: "ends differ",
};
const IN_LOG = ["records_gone", "unlisted", "end_differs"];

const findingRow = ({ call_id: id, at, found, code, ended_at: theirs, log_ended_at: ours }) =>
	h(
		"tr",
		h("th.value.mono", { scope: "row" }, IN_LOG.includes(found) ? h("a", { href: callPath(id) }, id) : id),
		h("td", { data: { label: "Began" } }, moment(at, "full")),
		h(
			"td.value",
			{ data: { label: "Found" } },
			`${FOUND[found] ?? found}${code ? `, error ${code}` : ""}`,
			found === "end_differs" &&
				h("p.small.muted", "Twilio: ", moment(theirs, "full"), ", the log: ", moment(ours, "full")),
		),
	);

function findings(record, box) {
	const body = h("tbody");
	const more = h("button.btn", { onclick: () => load() }, "More findings");
	let page = 0;
	async function load() {
		try {
			page += 1;
			const { data, total } = await get(`/completeness?record=${record}&page=${page}&page_size=${PAGE}`);
			body.append(...data.map(findingRow));
			more.hidden = page * PAGE >= total;
			show(box, table(`Findings of record ${record}`, ["Call", "Began", "Found"], body, "stacked"), more);
		} catch (error) {
			page -= 1;
			show(box, failed(error, load));
		}
	}
	return load();
}

function day({ id: record, at, detail }) {
	const { from, by, listed, missing, fallback, unlisted, differing, with_alerts: known } = detail;
	const parts = [
		[missing, "missing"],
		[fallback, "by the fallback URL"],
		[unlisted, "not at Twilio"],
		[differing, "with other ends"],
	].filter(([n]) => n > 0);
	const box = h("div");
	const told = parts.map(([n, words]) => `${count(n)} ${words}`).join(", ");
	const summary = h(
		"summary",
		{ class: missing || unlisted ? "wrong" : null },
		`${from.slice(0, 10)}: ${count(listed)} calls, ${told || "all in the log"}`,
	);
	const group = h(
		"details.group",
		{ ontoggle: () => group.open && parts.length && !box.hasChildNodes() && findings(record, box) },
		summary,
		h("p.small.muted", "Compared ", moment(at, "full"), ` by ${by}, `, h("span.mono", `record ${record}`), "."),
		!known && h("p.small.muted", "Twilio does not let its alerts be read, so that no error is named."),
		box,
	);
	return group;
}

export function completenessPanel() {
	const box = h("div");
	fill(
		box,
		() => get("/logs?kind=completeness_checked&page_size=10"),
		({ data }) => {
			return data.length
				? data.map(day)
				: empty("No day was compared yet", "Each day is, once it is over.", "clock", true);
		},
	);
	return panel("Compared with Twilio's list of calls", {}, box);
}
