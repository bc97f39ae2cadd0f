// What every page is built of: panels, chips, empty and error states, questions and their outcome.

import { h, show, text } from "./dom.js";
import { icon } from "./icons.js";
import { viewer } from "./viewer.js";

export const moment = (at, as) => (at ? h("sb-time", { at, as }) : h("span.muted", "–"));
export const chip = (words, tone, iconName) =>
	h("span.chip", { data: tone ? { tone } : {} }, iconName && icon(iconName), words);
export const pair = (name, value) => [h("dt", name), h("dd", value ?? "–")];
export const note = (tone, words, iconName = "info", ...more) =>
	h("div.note", { data: { tone } }, icon(iconName), h("div.grow", words, ...more));

export const head = (title, ...tools) => h("div.page-head", h("h1", { tabindex: "-1" }, title), ...tools);
export const pageButton = (words, iconName, onclick) => h("button.btn", { onclick }, icon(iconName), words);
/** A table that scrolls by itself where it is too wide; what `name` begins with `#` is a figure. */
export const table = (label, names, body, cls = "") =>
	h(
		"div.scroll-x",
		{ tabindex: "0", role: "region", "aria-label": label },
		h(
			"table",
			{ class: cls || null },
			h(
				"thead",
				h(
					"tr",
					names.map((name) =>
						h("th", { scope: "col", class: name.startsWith("#") ? "num" : null }, name.replace("#", "")),
					),
				),
			),
			body,
		),
	);

let serial = 0;
/** A panel with its heading; `tools` stand beside the heading. */
export function panel(title, { tools = [], flush = false, wide = "", level = "h2" } = {}, ...children) {
	serial += 1;
	const id = `p${serial}`;
	return h(
		"section",
		{ class: `panel ${wide}`, "aria-labelledby": id },
		h("header", h(level, { id }, title), ...[tools].flat()),
		h("div", { class: flush ? "body flush" : "body" }, ...children),
	);
}

export const empty = (title, words, iconName = "info", slim = false) =>
	h("div", { class: slim ? "empty slim" : "empty" }, icon(iconName), h("strong", title), words && h("span", words));

/** Lines of grey where something will stand. */
export const ghosts = (lines = 4) =>
	h(
		"div.stack",
		{ "aria-busy": "true" },
		h("span.unseen", "Loading"),
		Array.from({ length: lines }, (_, i) =>
			h("span.ghost", { "aria-hidden": "true" }, "x".repeat(46 - ((i * 13) % 24))),
		),
	);

/** What went wrong, and a way to try again. */
export function failed(error, again) {
	const words = error?.message ?? String(error);
	return h(
		"div.empty",
		{ role: "alert" },
		icon("warn"),
		h("strong", error?.status === 403 ? "Not allowed" : "This cannot be shown"),
		h("span", words),
		error?.requestId && h("span.tiny.mono", `Request ${error.requestId}`),
		again && h("button.btn", { onclick: again }, icon("reload"), "Try again"),
	);
}

const politely = h("div.unseen", { "aria-live": "polite", id: "says" });
const toasts = h("div.toasts", { role: "region", "aria-label": "Messages" });
export const stage = [politely, toasts];

/** Says something to assistive technology. */
export function say(words) {
	text(politely, "");
	setTimeout(() => text(politely, words), 50);
}

/** Shows the outcome of what was asked for. */
export function toast(tone, words) {
	const box = h(
		"div.toast",
		{ data: { tone } },
		icon(tone === "bad" ? "warn" : "check"),
		h("span.grow", words),
		h("button.btn.quiet.square", { "aria-label": "Dismiss message", onclick: () => box.remove() }, icon("cross")),
	);
	toasts.append(box);
	while (toasts.childElementCount > 4) toasts.firstElementChild.remove();
	say(words);
	setTimeout(() => box.remove(), tone === "bad" ? 12_000 : 6_000);
}

/** A dialog or drawer; resolves with what `close` was given once it is closed. The focus goes back to where it was. */
export function dialog(title, build, { wide = false, drawer = false } = {}) {
	return new Promise((resolve) => {
		let outcome;
		const box = h("dialog", { class: drawer ? "drawer" : wide ? "wide" : "", "aria-labelledby": "dialog-title" });
		const close = (value) => {
			outcome = value;
			box.close();
		};
		const back = document.activeElement;
		box.append(h("div.inner", h("h2", { id: "dialog-title" }, title), ...[build(close, box)].flat()));
		box.addEventListener("click", (event) => event.target === box && close());
		box.addEventListener("close", () => {
			box.remove();
			if (back?.isConnected) back.focus();
			resolve(outcome);
		});
		document.body.append(box);
		box.showModal();
	});
}

/** Asks before something is done; resolves with true or false. */
export async function confirm(title, words, yes, { danger = false } = {}) {
	const answer = await dialog(title, (close) => [
		h("p.small", words),
		h(
			"div.actions",
			h("button.btn", { onclick: () => close(false) }, "Cancel"),
			h(
				"button",
				{ class: `btn primary ${danger ? "danger" : ""}`, type: "button", autofocus: true, onclick: () => close(true) },
				yes,
			),
		),
	]);
	return answer === true;
}

/** Runs `work` for a button: busy while it runs, its failure told. */
export async function busy(button, work) {
	if (button.getAttribute("aria-busy") === "true") return undefined;
	button.setAttribute("aria-busy", "true");
	try {
		return await work();
	} catch (error) {
		toast("bad", error.message);
		return undefined;
	} finally {
		button.removeAttribute("aria-busy");
	}
}

/** A row of choices of which one holds; a radio group. */
export function choices(label, name, options, chosen, changed) {
	return h(
		"fieldset.seg",
		h("legend.unseen", label),
		options.map(([value, words]) =>
			h(
				"label",
				h("input", { type: "radio", name, value, checked: value === chosen, onchange: () => changed(value) }),
				h("span", words),
			),
		),
	);
}

/** A labelled field. */
export function field(label, control, hint) {
	serial += 1;
	const id = control.id || `f${serial}`;
	control.id = id;
	if (hint) control.setAttribute("aria-describedby", `${id}-h`);
	return h("div.field", h("label", { for: id }, label), control, hint && h("span.hint", { id: `${id}-h` }, hint));
}

/** A `<select>` from pairs of value and words. */
export const select = (options, value, changed) =>
	h(
		"select.input",
		{ onchange: (event) => changed(event.target.value) },
		options.map(([id, words]) => h("option", { value: id, selected: id === value }, words)),
	);

/** JSON, one click away. */
export function raw(title, value) {
	const details = h("details", h("summary", title));
	details.addEventListener("toggle", () => {
		if (details.open && !details.querySelector("pre"))
			details.append(h("pre", { tabindex: "0", "aria-label": title }, JSON.stringify(value, null, 2)));
	});
	return details;
}

/** Redraws `node`'s content while `load` runs: grey lines, then what `draw` makes, or what went wrong. */
export async function fill(node, load, draw, lines = 4) {
	show(node, ghosts(lines));
	try {
		show(node, draw(await load()));
	} catch (error) {
		if (error.name !== "AbortError")
			show(
				node,
				failed(error, () => fill(node, load, draw, lines)),
			);
	}
}

/** The switch that shows full numbers; it asks first, because the asking is recorded. */
export function askReveal(changed) {
	const box = h("input", {
		type: "checkbox",
		role: "switch",
		onchange: async () => {
			if (box.checked)
				box.checked = await confirm(
					"Show full numbers?",
					`That ${viewer.name} looked at them is written to the audit trail.`,
					"Show numbers",
				);
			await changed(box.checked);
		},
	});
	return h("label.switch.on-good", box, "Show numbers");
}
