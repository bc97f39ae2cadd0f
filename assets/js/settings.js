// What is in force, from where, changed by whom.

import { get, post } from "./api.js";
import { h, show } from "./dom.js";
import { completenessPanel } from "./completeness.js";
import { bytes, count } from "./format.js";
import { icon } from "./icons.js";
import { onShortcut } from "./keys.js";
import { summary } from "./logs.js";
import { keysPanel, revealsPanel } from "./people.js";
import { hear } from "./stream.js";
import { busy, confirm, empty, fill, head, moment, note, pageButton, pair, panel, table, toast } from "./ui.js";
import { viewer } from "./viewer.js";
import * as words from "./words.js";

function shown(value) {
	if (value === null || value?.length === 0) return h("span.muted", "not set");
	if (Array.isArray(value)) return value.map(shown).join(", ");
	return typeof value === "boolean"
		? value
			? "yes"
			: "no"
		: typeof value === "object"
			? JSON.stringify(value)
			: String(value);
}

function settingsTable({ settings }) {
	const groups = Map.groupBy(settings, ({ key }) => key.split(".")[0]);
	return [...groups].map(([name, list]) =>
		h(
			"details.group",
			{ open: name === "routing" },
			h("summary", words.capital(name), ` (${list.length})`),
			table(
				`Settings of ${name}`,
				["Key", "Value", "From"],
				h(
					"tbody",
					list.map(({ key, value, source, line, pending }) =>
						h(
							"tr",
							h("th", { scope: "row", class: "mono" }, key),
							h(
								"td.value",
								shown(value),
								pending !== null && pending !== undefined && h("p.small.wrong", "restart pending: ", shown(pending)),
							),
							h("td.muted", line ? `${source}, line ${line}` : source),
						),
					),
				),
				"fixed",
			),
		),
	);
}

function facts({ program, version, loaded_at: loaded, ruleset, database: db, audit, certificate, backup, pruned }) {
	const full = (at) => at && moment(at, "full");
	const mono = (value) => h("span.mono", { title: value }, value.length > 24 ? `${value.slice(0, 24)}…` : value);
	const rows = [
		["Version", program],
		["Settings", h("span", mono(version), ", since ", moment(loaded))],
		["Rule set", h("a", { href: "/rules" }, mono(ruleset))],
		["Database", bytes(db.bytes)],
		["Records", h("a", { href: "/logs?view=records" }, count(db.records))],
		["Oldest record", full(db.oldest)],
		["Audit head", audit?.head && mono(audit.head)],
		["Last prune", pruned ? h("a", { href: "/logs?view=records&kind=pruned" }, full(pruned)) : "none"],
		["Last backup", full(backup?.created_at) || "none"],
		[
			"Certificate",
			certificate
				? h(
						"span",
						`${certificate.names.join(", ")} until `,
						full(certificate.expires_at),
						certificate.failure && `; renewing failed: ${certificate.failure.message}`,
					)
				: "none: plain HTTP",
		],
	];
	return h(
		"dl.kv",
		rows.filter(([, value]) => value).map(([name, value]) => pair(name, value)),
	);
}

export function settings(main) {
	const [tableBox, factsBox, changesBox] = [h("div"), h("div"), h("div")];
	const reload = pageButton("Reload", "reload", () =>
		busy(reload, async () => {
			if (
				!(await confirm(
					"Read the configuration again?",
					"The file is read and checked. If it is valid it comes into force at once and no call is dropped; " +
						"if not, nothing changes.",
					"Reload",
				))
			)
				return;
			try {
				told((await post("/settings/reload")).data);
				load();
			} catch (error) {
				show(
					outcome,
					note("bad", h("strong", `Nothing was changed. ${error.message}`), "warn", problems(error.details.problems)),
				);
				toast("bad", "Nothing was changed.");
			}
		}),
	);
	const [outcome, pending] = [h("div", { "aria-live": "polite" }), h("div")];

	/** What is wrong with the file, or deserves a look: each with its line and what to do. */
	function problems(list) {
		const where = ({ line, column }) => (line ? `Line ${line}${column ? `, column ${column}` : ""}: ` : "");
		return h(
			"ul.checks",
			(list ?? []).map((one) => h("li", h("span", where(one), one.message, one.hint && `; ${one.hint}`))),
		);
	}

	function told({ changes, needs_restart: waits, warnings }) {
		const changed = changes.length === 1 ? "1 key has changed." : `${count(changes.length)} keys have changed.`;
		const words_ = changes.length
			? `The configuration was read: ${changed}`
			: "The configuration was read; nothing in it has changed.";
		const tone = waits.length || warnings.length ? "warn" : "ok";
		show(
			outcome,
			note(
				tone,
				h("strong", words_),
				tone === "ok" ? "check" : "warn",
				waits.length > 0 && h("p", `restart pending: ${waits.join(", ")}`),
				warnings.length > 0 && problems(warnings),
			),
		);
		toast("ok", words_);
	}
	show(
		main,
		head("Settings", viewer.isAdmin && reload),
		h("div.stack", outcome, pending),
		h(
			"div.grid",
			h("div.stack.w7", panel("Configuration in force", {}, tableBox)),
			h(
				"div.stack.w5",
				panel("This installation", {}, factsBox),
				keysPanel(),
				revealsPanel(),
				completenessPanel(),
				panel("Changes", {}, changesBox),
			),
		),
	);

	async function load() {
		const asked = get("/settings");
		const drawPending = async () => {
			const waits = (await asked).data.needs_restart ?? [];
			show(
				pending,
				waits.length > 0 &&
					note(
						"warn",
						`restart pending: ${waits.join(", ")}. What the file says of these comes into force at the next start.`,
						"warn",
					),
			);
		};
		await Promise.all([
			drawPending().catch(() => show(pending)),
			fill(
				factsBox,
				async () => ({ ...(await asked).data, pruned: (await get("/logs?kind=pruned&page_size=1")).data[0]?.at }),
				facts,
			),
			fill(tableBox, async () => (await asked).data, settingsTable, 8),
			fill(
				changesBox,
				() => get("/settings/changes?page_size=20"),
				({ data }) =>
					data.length
						? h(
								"ol.steps",
								data.map((record) =>
									h(
										"li",
										icon("doc"),
										moment(record.at),
										record.detail?.by ? `${record.detail.by}: ` : "",
										changeWords(record),
									),
								),
							)
						: empty("No changes yet", "", "doc", true),
			),
		]);
	}

	function changeWords({ kind, detail }) {
		if (!detail.changes) return summary({ kind, detail });
		return (
			detail.changes
				.map(
					({ key, from, to, secret }) =>
						`${key}: ${secret ? "another secret" : `${from ?? "nothing"} to ${to ?? "nothing"}`}`,
				)
				.join("; ") || "the first configuration"
		);
	}

	load();
	return [hear(["settings", "reset"], load), onShortcut({ r: load })];
}
