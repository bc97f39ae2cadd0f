// Rules as sentences.

import { query } from "./api.js";
import { h } from "./dom.js";
import { count } from "./format.js";
import { chip } from "./ui.js";
import * as words from "./words.js";

/** `figures` are those of a day, where there are some. */
export function ruleCards({ tiers, rules, default_order: others }, { figures = [], from, end, link = true } = {}) {
	const calls = ({ name }) => {
		const figure = figures.find(({ rule }) => rule === name);
		return h(
			"a",
			{ class: "small", href: `/logs${query({ rule: name, from })}` },
			figure ? `${count(figure.calls)} calls in 24 h` : "Calls",
			h("span.unseen", ` of ${name}`),
		);
	};
	const card = (rule, i) =>
		h(
			"li",
			{ id: link ? `rule-${i + 1}` : null, tabindex: link ? "-1" : null },
			h("b.fig", i + 1),
			h(
				"div.grow",
				h("strong", rule.name),
				h(
					"p.small",
					`${Object.keys(rule.when).length ? `Callers (${words.conditions(rule.when)})` : "All callers"} `,
					`${words.action(rule)}.`,
					rule.prefer_last_answered_s && " Whoever talked to them last goes first.",
				),
			),
			link && calls(rule),
		);
	const last = (name, said) => h("li", h("b", "–"), h("div.grow", h("strong", name), h("p.small", said)));
	return [
		h(
			"p.row.wrap",
			tiers.map(({ name, min_score: least }) => chip(`${name}: score ${least} and more`, "accent")),
		),
		h(
			"ol.rules",
			rules.map(card),
			last("Everybody else", others?.length ? `goes to ${others.join(", then ")}.` : "goes to the default dialer."),
			end && last("Last resort", end),
		),
	];
}
