// Who may come in by a key, and who saw numbers in full.

import { call, get, post, query } from "./api.js";
import { h, show } from "./dom.js";
import { count } from "./format.js";
import {
	busy,
	confirm,
	dialog,
	empty,
	field,
	fill,
	moment,
	note,
	pageButton,
	panel,
	select,
	table,
	toast,
} from "./ui.js";
import { viewer } from "./viewer.js";

const ROLES = ["viewer", "operator", "admin"].map((role) => [role, role]);

/** The one time that a key is seen. */
const shown = ({ name, key }) =>
	dialog(`The key of ${name}`, (close) => [
		note("warn", "It is shown only now: copy it, and give it to whoever holds it."),
		h("p.mono.break", { id: "made" }, key),
		h("div.actions", h("button.btn.primary", { autofocus: true, onclick: () => close() }, "Done")),
	]);

async function askForKey() {
	const made = await dialog("Make a key", (close) => {
		const name = h("input.input", {
			required: true,
			maxlength: 64,
			autocomplete: "off",
			pattern: "[A-Za-z0-9][A-Za-z0-9 ._\\-]*",
		});
		const role = select(ROLES, "viewer", () => {});
		const wrong = h("p.wrong.small", { role: "alert" });
		const go = h("button.btn.primary", { type: "submit" }, "Make key");
		const send = async () => {
			try {
				close((await post("/keys", { name: name.value, role: role.value })).data);
			} catch (error) {
				wrong.textContent = error.message;
			}
		};
		return h(
			"form.stack",
			{
				onsubmit: (event) => {
					event.preventDefault();
					busy(go, send);
				},
			},
			field("Who holds it", name, "Letters and digits; it stands in the log of what is done with the key."),
			field("Role", role),
			wrong,
			h("div.actions", h("button.btn", { type: "button", onclick: () => close() }, "Cancel"), go),
		);
	});
	if (made) await shown(made);
	return made;
}

function keyRow({ id, name, role, by, used_at: used }, again) {
	const revoke = h(
		"button.btn.quiet",
		{
			"aria-label": `Revoke ${name}`,
			onclick: () =>
				busy(revoke, async () => {
					const words = "It opens nothing from then on; its sessions and streams end at once.";
					if (!(await confirm(`Revoke the key of ${name}?`, words, "Revoke", { danger: true }))) return;
					await call(`/keys/${id}`, { method: "DELETE" });
					toast("ok", `The key of ${name} is revoked.`);
					again();
				}),
		},
		"Revoke",
	);
	return h(
		"tr",
		h("th.value", { scope: "row" }, name),
		h("td", { data: { label: "Role" } }, role),
		h("td.value", { data: { label: "Made by" } }, by ?? "configuration"),
		h("td", { data: { label: "Last use" } }, used ? moment(used) : "–"),
		viewer.isAdmin && h("td", id && revoke),
	);
}

export function keysPanel() {
	const box = h("div");
	const names = ["Held by", "Role", "Made by", "Last use", ...(viewer.isAdmin ? ["Revoke"] : [])];
	const load = () =>
		fill(
			box,
			() => get("/keys"),
			({ data }) =>
				table(
					"All keys",
					names,
					h(
						"tbody",
						data.map((key) => keyRow(key, load)),
					),
					"stacked",
				),
		);
	const make = pageButton("Make a key", "person", async () => (await askForKey()) && load());
	load();
	return panel("Keys", { tools: viewer.isAdmin ? [make] : [] }, box);
}

export function revealsPanel() {
	const box = h("div.stack");
	const load = (days) => {
		const from = new Date(Date.now() - days * 86_400_000).toISOString();
		const rows = (kind, words) => h("a", { href: `/logs${query({ view: "records", kind, from })}` }, words);
		fill(
			box,
			() => get(`/reveals${query({ from })}`),
			({ data }) => [
				data.length
					? table(
							"People who saw numbers in full",
							["Who", "#Times", "#Numbers", "Last"],
							h(
								"tbody",
								data.map(({ by, times, numbers, exports, last_at: last }) =>
									h(
										"tr",
										h("th.value", { scope: "row" }, by),
										h("td.num", count(times)),
										h("td.num", count(numbers), exports > 0 && [" + ", rows("exported", `${count(exports)} exports`)]),
										h("td", moment(last)),
									),
								),
							),
						)
					: empty("Nobody did", "", "check", true),
				rows("accessed", "The records of it"),
			],
		);
	};
	const periods = [
		["1", "24 hours"],
		["7", "7 days"],
		["30", "30 days"],
		["90", "90 days"],
	];
	const period = select(periods, "30", load);
	period.setAttribute("aria-label", "Period");
	load(30);
	return panel("Who saw numbers in full", { tools: [period] }, box);
}
