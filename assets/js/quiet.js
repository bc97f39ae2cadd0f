// Taking a dialer out, and muting alerts: each a question with a reason and an end.

import { call, get, post } from "./api.js";
import { h } from "./dom.js";
import { busy, dialog, field, moment, note, pageButton, select, toast } from "./ui.js";

const LENGTHS = [
	["30m", "30 minutes"],
	["1h", "1 hour"],
	["4h", "4 hours"],
	["24h", "24 hours"],
];

/** A dialog; resolves with the answer to what it sends. */
const question = (title, yes, fields, send) =>
	dialog(title, (close) => {
		const submit = h("button.btn.primary", { type: "submit" }, yes);
		const onsubmit = async (event) => {
			event.preventDefault();
			const answer = await busy(submit, send);
			if (answer) close(answer);
		};
		return h(
			"form.stack",
			{ onsubmit },
			fields,
			h("div.actions", h("button.btn", { onclick: () => close() }, "Cancel"), submit),
		);
	});

const reasonField = (required) => h("input.input", { name: "reason", maxlength: 200, autofocus: true, required });
const timeField = (name) => h("input.input", { type: "datetime-local", name });
const iso = (input) => (input.value ? new Date(input.value).toISOString() : undefined);

/** Takes a dialer out; resolves with how it is then. `all` are all dialers. */
export async function takeOut({ name, state }, all) {
	const isLast = state === "closed" && !all.some((one) => one.name !== name && one.state === "closed");
	const [reason, until] = [reasonField(false), timeField("until")];
	const length = select([["", "Somebody puts it back"], ...LENGTHS], "");
	const answer = await question(
		`Take ${name} out?`,
		"Take out",
		[
			h(
				"p.small",
				"It gets no new calls until it is back. Calls that it has go on, and nobody is told that it is down.",
			),
			isLast && note("bad", h("strong", "Callers will be held: this is the last one that takes calls."), "warn"),
			field("Reason", reason),
			field("Back after", length),
			field("or at", until),
		],
		() =>
			post(`/dialers/${encodeURIComponent(name)}/drain`, {
				reason: reason.value.trim() || undefined,
				for: (!until.value && length.value) || undefined,
				until: iso(until),
			}),
	);
	if (answer) toast("ok", `${name} is taken out: it gets no new calls.`);
	return answer?.data;
}

/** Mutes alerts; `of` is an incident whose kind is meant. */
async function mute(of) {
	const dialers = (await get("/dialers")).data.map(({ name }) => [`dialer ${name}`, `About ${name}`]);
	const kind = of ? [[`kind ${of.kind}`, of.kind.replaceAll("_", " ")]] : [];
	const what = select([...kind, ["", "All but those about the audit log"], ...dialers]);
	const [reason, length] = [reasonField(true), select(LENGTHS, "1h")];
	const [from, until] = [timeField("from"), timeField("until")];
	const answer = await question(
		"Mute alerts?",
		"Mute",
		[
			h("p.small", "Nobody is told of these incidents meanwhile; what is open at the end is told then."),
			field("Reason", reason),
			field("Incidents", what),
			field("For", length),
			h("details", h("summary", "Planned, or until a time"), field("From", from), field("Until", until)),
		],
		() => {
			const [scope, name] = what.value.split(" ");
			return post("/alerts/mutes", {
				...(scope && { [scope]: name }),
				from: iso(from),
				for: until.value ? undefined : length.value,
				until: iso(until),
				reason: reason.value.trim(),
			});
		},
	);
	if (answer) toast("ok", "Alerts are muted.");
	return answer?.data;
}

export function muteButton(done = () => {}, of) {
	const button = pageButton("Mute", "pause", () => busy(button, async () => (await mute(of)) && done()));
	return button;
}

/** Who keeps it quiet, why and until when. */
export const quietBy = ({ by, reason, until }) => [
	`by ${by}`,
	until && [" until ", moment(until)],
	reason && `: ${reason}`,
];

export const muteList = (mutes, isOperator, changed) =>
	h(
		"ul.checks",
		mutes.map((mute) => {
			const what = mute.kind?.replaceAll("_", " ") ?? "All incidents";
			const end = pageButton("End", "play", () =>
				busy(end, async () => {
					await call(`/alerts/mutes/${encodeURIComponent(mute.id)}`, { method: "DELETE" });
					changed();
				}),
			);
			end.setAttribute("aria-label", `End mute: ${what}`);
			return h(
				"li.row.wrap",
				h(
					"span.grow",
					h("strong", mute.dialer ? `${what} about ${mute.dialer}` : what),
					Date.parse(mute.from) > Date.now() && [" from ", moment(mute.from)],
					" ",
					quietBy(mute),
				),
				isOperator && end,
			);
		}),
	);
