// The draft of the rules: edited, compared, published; and what was in force before.

import { ruleCards } from "./cards.js";
import { call, callPath, get, post, signIn } from "./api.js";
import { h, show } from "./dom.js";
import { count } from "./format.js";
import { icon } from "./icons.js";
import { decisionList } from "./trace.js";
import { busy, choices, confirm, dialog, field, fill, moment, note, select, table, toast } from "./ui.js";
import { viewer } from "./viewer.js";

const KEYS = ["name", "tier", "dialers"];
const VIEWS = ["Forms", "TOML"].map((name) => [name, name]);

/** The text as tables of rules and what stands between them; joined again it is the same. */
function split(text) {
	const parts = [{ lines: [] }];
	for (const line of text.split("\n")) {
		const last = parts.at(-1);
		if (/^\s*\[\[\s*routing\.rules\s*\]\]/.test(line)) {
			// A comment right above belongs to the rule.
			const above = last.lines.length - (last.lines.findLastIndex((one) => !one.startsWith("#")) + 1);
			parts.push({ isRule: true, lines: [...(above ? last.lines.splice(-above) : []), line] });
		} else if (last.isRule && /^\s*\[\[?\s*routing\b(?!\.rules\.)/.test(line)) parts.push({ lines: [line] });
		else last.lines.push(line);
	}
	return parts;
}
const join = (parts) => parts.flatMap(({ lines }) => lines).join("\n");

const quoted = (value) => [...value.matchAll(/["']([^"']*)["']/g)].map(([, one]) => one);
const toml = (value) => JSON.stringify(value);
const parted = (said, by) => said.split(by).filter(Boolean);
const drawn = (pairs) =>
	pairs
		.replace(/["'\s]/g, "")
		.replace(/=/g, " ")
		.replace(/,/g, " + ");

/** What a form shows of a rule; everything else stays text. */
function read({ lines }) {
	const start = lines.findIndex((line) => /^\s*\[\[/.test(line));
	const own = { top: lines.slice(0, start + 1), rest: [] };
	let below = false;
	for (const line of lines.slice(start + 1)) {
		below ||= /^\s*\[/.test(line);
		const [, key, value] = (!below && /^(\w+)\s*=\s*("[^"\\]*"|'[^']*'|\[[^\\]*\])\s*$/.exec(line)) || [];
		if (!KEYS.includes(key)) own.rest.push(line);
		else if (key === "dialers")
			own.dialers = [...value.matchAll(/\{([^}]*)\}|["']([^"']*)["']/g)]
				.map(([, split, one]) => (split ? drawn(split) : one))
				.join(", ");
		else own[key] = quoted(value).join(", ");
	}
	const stands = (key) => own.rest.some((line) => new RegExp(`^\\s*(\\[routing\\.rules\\.)?${key}\\b`).test(line));
	own.shown = KEYS.filter((key) => !stands(key) && !(key === "tier" && stands("when")));
	return own;
}

function write({ top, rest, shown, name, tier, dialers }) {
	const step = (one) => {
		if (!one.includes("+")) return toml(one);
		const weights = parted(one, /\s*\+\s*/).map((each) => each.split(/\s+/));
		return `{ ${weights.map(([who, weight]) => `${toml(who)} = ${weight || 1}`).join(", ")} }`;
	};
	const said = {
		name: name && toml(name),
		tier:
			tier &&
			`[${parted(tier, /\s*,\s*/)
				.map(toml)
				.join(", ")}]`,
		dialers:
			dialers &&
			`[${parted(dialers, /\s*,\s*/)
				.map(step)
				.join(", ")}]`,
	};
	const keys = shown.filter((key) => said[key]).map((key) => `${key} = ${said[key]}`);
	return [...top, ...keys, ...rest];
}

/** `changed` gets the text after each edit, `redraw` where rules were moved. */
function forms(text, open, changed, redraw) {
	const parts = split(text);
	const own = parts.filter(({ isRule }) => isRule);
	const move = (part, by) => {
		const other = own[own.indexOf(part) + by];
		[part.lines, other.lines] = [other.lines, part.lines];
		redraw(join(parts), own.indexOf(other));
	};
	const add = () => {
		const first = parts.findIndex(({ isRule }) => isRule);
		parts.splice(first < 0 ? parts.length : first, 0, {
			isRule: true,
			lines: ["[[routing.rules]]", 'name = "new rule"', ""],
		});
		redraw(join(parts), 0);
	};
	const one = (part, i) => {
		const rule = read(part);
		const title = h("span", rule.name);
		const edit = (key) => (event) => {
			rule[key] = key === "rest" ? event.target.value.split("\n") : event.target.value.trim();
			title.textContent = rule.name;
			part.lines = write(rule);
			changed(join(parts));
		};
		const input = (key, label, hint) =>
			rule.shown.includes(key) &&
			field(
				label,
				h("input.input", { value: rule[key] ?? "", name: key, autocomplete: "off", oninput: edit(key) }),
				hint,
			);
		const [rows, value] = [Math.min(8, rule.rest.length + 1), rule.rest.join("\n")];
		const more = h("textarea.input", { rows, value, oninput: edit("rest") });
		const act = (words, onclick, disabled = false) =>
			h("button.btn", { onclick, disabled, "aria-label": `${words}: rule ${i + 1}, ${rule.name}` }, words);
		return h(
			"li",
			h(
				"details",
				{ open: i === open },
				h("summary", `${i + 1}. `, title),
				h(
					"div.stack",
					h(
						"div.fields",
						input("name", "Name"),
						input("tier", "Tiers", "hot, warm; none: without a tier; empty: every call"),
						input("dialers", "Dialers, in order", "first, second; a 70 + b 30 is drawn"),
					),
					field("Everything else, as TOML", more),
					h(
						"div.row.wrap",
						act("Earlier", () => move(part, -1), i === 0),
						act("Later", () => move(part, 1), i === own.length - 1),
						act("Delete", () => redraw(join(parts.filter((each) => each !== part)), -1)),
					),
				),
			),
		);
	};
	return [h("button.btn", { onclick: add }, "Add a rule"), h("ol.edits", own.map(one))];
}

async function publish(body, box, problems) {
	try {
		await post("/routing/publish", body);
		toast("ok", "The rules are in force.");
		return true;
	} catch (error) {
		show(
			box,
			note(
				"bad",
				h("strong", error.message),
				"warn",
				problems?.(error.details.problems),
				/sign-in/.test(error.message) &&
					h("p", "The draft stays. ", h("button.btn", { onclick: signIn }, "Sign in again")),
			),
		);
		return false;
	}
}

const byHand = (text) => [
	note(
		"accent",
		h(
			"span",
			"This server writes no rules: [server] edit_rules or [routing] file is off. Put this in place of [routing] and run ",
			h("code", "switchboard reload"),
		),
	),
	h("pre", { tabindex: "0", "aria-label": "Text of the rules" }, text),
];

function difference({ call_id: id, at, live, draft: other }) {
	const side = (name, decided) => [h("h3", name), decided ? decisionList(decided.trace) : "The record is gone."];
	const goes = (decided) => decided?.plan.join(", then ") || (decided?.course.is ?? "unknown");
	return h(
		"li",
		icon("fork"),
		moment(at),
		h("a", { href: callPath(id) }, `Call ${id.slice(-6)}`),
		` went to ${goes(live)}; by the draft: ${goes(other)}.`,
		h("details", h("summary", "Both explanations"), side("In force", live), side("Draft", other)),
	);
}

const changeList = (changes) =>
	h(
		"ul.checks",
		changes.map(({ text }) => h("li", icon("arrow"), h("span", text))),
	);

export function draft({ rules, isWritable, load }) {
	let hasDraft = Boolean(rules.draft);
	const [figures, editor, outcome] = [h("div.stack"), h("div.stack"), h("div.stack", { "aria-live": "polite" })];
	let [text, view, basedOn] = ["", "Forms", ""];
	const body = h("div.stack");
	const area = h("textarea.input", { rows: 24, spellcheck: "false", oninput: () => edited(area.value) });
	const edited = (now) => (text = now);
	function draw(open = -1) {
		area.value = text;
		const redraw = (now, at) => {
			edited(now);
			draw(at);
			body.querySelector("details[open] input")?.select();
		};
		show(body, view === "TOML" ? field("Text of the rules", area) : forms(text, open, edited, redraw));
	}
	function toLine(line) {
		view = "TOML";
		editor.querySelector("input[value=TOML]").checked = true;
		draw();
		let from = 0;
		for (let i = 1; i < line; i += 1) from = text.indexOf("\n", from) + 1;
		area.focus();
		area.setSelectionRange(from, (text.indexOf("\n", from) + 1 || text.length + 1) - 1);
		area.scrollTop = (area.scrollHeight * (line - 3)) / text.split("\n").length;
	}
	const problems = (list) =>
		list?.length > 0 &&
		h(
			"ul.checks",
			list.map(({ line, message, hint }) =>
				h(
					"li",
					line && h("button.btn.quiet", { onclick: () => toLine(line) }, `Line ${line}`),
					h("span", message, hint && `; ${hint}`),
				),
			),
		);
	async function save() {
		try {
			const { data } = await call("/routing/draft", { method: "PUT", body: text });
			const now = (await get("/routing/draft")).data;
			show(
				outcome,
				note(
					data.warnings.length ? "warn" : "ok",
					h("strong", `Saved as draft ${data.version}; its tests pass.`),
					"flask",
					problems(data.warnings),
					now.changes.length ? changeList(now.changes) : "It changes nothing yet.",
				),
			);
			hasDraft = true;
			compare();
			return now;
		} catch (error) {
			show(outcome, note("bad", h("strong", error.message), "warn", problems(error.details.problems)));
			return null;
		}
	}
	async function bring() {
		const saved = await save();
		if (!saved) return;
		const words = saved.changes.map((change) => change.text).join(" ");
		if (!(await confirm("Publish these rules?", `They take calls at once. ${words}`, "Publish"))) return;
		if (!(await publish({ text, based_on: basedOn }, outcome, problems))) return;
		delete editor.dataset.dirty;
		await call("/routing/draft", { method: "DELETE" }).catch(() => null);
		load();
	}
	const saving = h("button.btn.primary", { onclick: () => busy(saving, save) }, "Save and check");
	const publishing = h("button.btn", { onclick: () => busy(publishing, bring) }, "Publish");
	async function edit() {
		({ text, based_on: basedOn } = (await get("/routing/draft")).data);
		editor.dataset.dirty = "true";
		start.hidden = true;
		const views = choices("Edit as", "draft-view", VIEWS, view, (to) => {
			view = to;
			draw();
		});
		const byText = h("div.stack");
		const snippet = h("button.btn", { onclick: () => show(byText, byHand(text)) }, "How to publish");
		const publisher = viewer.isAdmin ? publishing : h("span.small.muted", "An admin publishes.");
		draw();
		show(editor, views, body, h("div.row.wrap", saving, isWritable ? publisher : snippet), outcome, byText);
		views.querySelector("input:checked").focus();
	}
	async function remove() {
		if (!(await confirm("Discard the draft?", "The rules in force stay.", "Discard", { danger: true }))) return;
		await call("/routing/draft", { method: "DELETE" });
		delete editor.dataset.dirty;
		load();
	}
	const start = h("button.btn", { onclick: () => busy(start, edit) }, "Edit the draft");
	const discard = h("button.btn", { onclick: () => busy(discard, remove) }, "Discard");
	const compare = () =>
		fill(
			figures,
			() => (hasDraft ? get("/routing/draft/differences?page_size=10") : null),
			(found) => {
				discard.hidden = !hasDraft;
				if (!found)
					return h("p.small.muted", "There is no draft. One decides beside the rules in force, without effect.");
				const said = `${count(found.different)} of ${count(found.calls)} calls since `;
				return [
					h("p", said, moment(found.since), " would have gone elsewhere."),
					found.data.length > 0 && h("ol.steps", found.data.map(difference)),
				];
			},
			2,
		);
	compare();
	return [figures, viewer.isOperator && h("div.row.wrap", start, discard), editor];
}

export function history([{ rules, isWritable, load }, { data }]) {
	const now = rules.version;
	const box = h("div.stack", { "aria-live": "polite" });
	const see = async (version) => {
		const { data: set } = await get(`/routing/rulesets/${version}`);
		await dialog(
			`Rules ${version}`,
			(close) => [
				h("div", ruleCards({ ...set, default_order: [set.default_dialer] }, { link: false })),
				h("div.actions", h("button.btn", { onclick: () => close() }, "Close")),
			],
			{ wide: true },
		);
	};
	const back = async (version) => {
		const { changes } = (await get(`/routing/rulesets/${now}/diff/${version}`)).data;
		const words = changes.map(({ text }) => text).join(" ");
		if (!(await confirm(`Go back to ${version}?`, `It takes calls at once. ${words}`, "Roll back"))) return;
		if (await publish({ version, based_on: now }, box)) load();
	};
	const act = (words, version, work) =>
		h(
			"button.btn.quiet",
			{ "aria-label": `${words} ${version}`, onclick: ({ currentTarget: one }) => busy(one, () => work(version)) },
			words,
		);
	const row = ({ version, first_at: from, by, rules: n }) =>
		h(
			"tr",
			h("th", { scope: "row", class: "mono" }, version),
			h("td", { data: { label: "Since" } }, moment(from, "day")),
			h("td", { data: { label: "By" } }, by ?? "–"),
			h("td.num", { data: { label: "Rules" } }, n),
			h(
				"td",
				act("Show", version, see),
				version !== now && viewer.isAdmin && isWritable && act("Roll back to", version, back),
			),
		);
	const names = [...new Set(data.map(({ version }) => version))];
	const [a, b] = [names[1], now].map((one) =>
		select(
			names.map((name) => [name, name]),
			one,
			() => null,
		),
	);
	const compare = h(
		"button.btn",
		{
			onclick: () =>
				busy(compare, async () => {
					const { changes } = (await get(`/routing/rulesets/${a.value}/diff/${b.value}`)).data;
					show(box, changes.length ? changeList(changes) : h("p.small", "They are the same."));
				}),
		},
		"Compare",
	);
	return [
		table("Rule sets", ["Version", "Since", "By", "#Rules", "Actions"], h("tbody", data.map(row)), "stacked"),
		names.length > 1 && h("div.fields", field("From", a), field("To", b), compare),
		box,
	];
}
