// Lists of callers, and putting numbers there.

import { call, get, post } from "./api.js";
import { h, show } from "./dom.js";
import { count, phone } from "./format.js";
import { busy, confirm, empty, field, fill, moment, table, toast } from "./ui.js";
import { viewer } from "./viewer.js";

function entryTable(name, rows, reload) {
	if (!rows.length) return empty("No entries", "Numbers of the configuration are not shown.", "person", true);
	const remove = (entry) =>
		h(
			"button.btn.quiet",
			{
				"aria-label": `Remove ${phone(entry.number)} from ${name}`,
				onclick: async ({ currentTarget: button }) => {
					if (!(await confirm(`Take this number off ${name}?`, "It counts from the next call on.", "Remove"))) return;
					await busy(button, () =>
						call(`/routing/lists/${name}/entries/${entry.id}`, { method: "DELETE" }).then(reload),
					);
				},
			},
			"Remove",
		);
	const row = (entry) =>
		h(
			"tr",
			h("th", { scope: "row", class: "fig" }, entry.number ? phone(entry.number) : "erased, stays blocked"),
			h("td", { data: { label: "Why" } }, entry.why ?? "–"),
			h("td", { data: { label: "Until" } }, entry.until ? moment(entry.until, "day") : "no end"),
			h("td", { data: { label: "By" } }, entry.by),
			h("td", viewer.isOperator && remove(entry)),
		);
	return table(`Entries of ${name}`, ["Number", "Why", "Until", "By", "Actions"], h("tbody", rows.map(row)), "stacked");
}

function addForm(name, reload) {
	const number = h("input.input", { autocomplete: "off", placeholder: "+49 170 0000000" });
	const why = h("input.input", { maxlength: "500" });
	const until = h("input.input", { type: "datetime-local" });
	const add = h("button.btn", { type: "submit" }, "Add");
	return h(
		"form.fields",
		{
			"aria-label": `Add to ${name}`,
			onsubmit: (event) => {
				event.preventDefault();
				busy(add, async () => {
					await post(`/routing/lists/${name}/entries`, {
						number: number.value.replace(/[\s()/.-]/g, ""),
						why: why.value.trim() || undefined,
						until: until.value ? new Date(until.value).toISOString() : undefined,
					}).catch(({ whole }) => Promise.reject(new Error(whole)));
					toast("ok", `The number is on ${name}.`);
					reload();
				});
			},
		},
		field("Number", number),
		field("Why", why),
		field("Until", until),
		add,
	);
}

export function lists({ data }) {
	if (!data.length) return empty("No lists", "Rules define them: [routing.lists.vip]", "person", true);
	return data.map(({ name, numbers, entries, file }) => {
		const box = h("div");
		const load = () =>
			fill(
				box,
				() => get(`/routing/lists/${name}/entries`),
				(page) => entryTable(name, page.data, load),
				2,
			);
		const details = h(
			"details.group",
			h(
				"summary",
				`${name}: ${count(numbers)} in the configuration${file ? ` and ${file}` : ""}, ${count(entries)} added`,
			),
			box,
			viewer.isOperator && addForm(name, load),
		);
		details.addEventListener("toggle", () => (details.open ? load() : show(box)));
		return details;
	});
}
