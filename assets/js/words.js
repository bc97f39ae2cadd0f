// The program's stable names in an operator's words. The lists come from the program: a name without words is shown as
// it is.

import { phone } from "./format.js";

const plain = (name) => String(name ?? "").replaceAll("_", " ");
const of = (table, name) => table[name] ?? plain(name);
export const capital = (words) => words.charAt(0).toUpperCase() + words.slice(1);

const STAGES = { routing: "Being routed", held: "On hold", dialing: "Ringing", bridged: "Talking", ended: "Ended" };
export const STATUSES = Object.keys(STAGES);
export const stage = (status) => of(STAGES, status);
export const stageTone = (status) =>
	({ routing: "accent", held: "held", dialing: "warn", bridged: "ok" })[status] ?? "";

const ENDS = {
	answered: "Answered",
	abandoned: "Caller hung up",
	no_answer: "No answer",
	busy: "Busy",
	failed: "Reached nobody",
	last_resort: "Last resort",
	goodbye: "Held too long",
	unknown: "End unknown",
	closed: "Outside hours",
	rejected: "Refused by a rule",
};
export const end = (disposition) => of(ENDS, disposition);
/** The dialers that a decision plans to ask, in order. */
export const plan = ({ decision }) => (decision?.plan ?? []).join(", then ");
/** A call that came through the API is on the line of whoever brought it. */
export const isElsewhere = (call) => /^apih?-/.test(call.call_id);
export const lineName = (name) => ({ last_resort: "last resort", rule_number: "number of the rule" })[name] ?? name;
/** Whose line a call or a leg is at: a dialer's, or the last resort's with its number. */
export const line = ({ dialer, last_resort: number }, nobody) =>
	dialer ?? (number ? `last resort ${phone(number)}` : nobody);
/** Who a report is about: a dialer's line, the last resort's, or the caller. */
export const party = ({ report, last_resort: number }, otherwise) =>
	report.dialer ?? (report.parent && number ? `Last resort ${phone(number)}` : otherwise);
export const endTone = (disposition) =>
	({ answered: "ok", failed: "bad", goodbye: "bad", last_resort: "bad", no_answer: "warn", busy: "warn" })[
		disposition
	] ?? "";

/** Why calls fail, as figures count it. */
export const ROUTING_FAILURES =
	"no_dialer_available all_dialers_refused all_legs_failed over_budget no_answer busy failed last_resort goodbye".split(
		" ",
	);
const REASONS = {
	rule_matched: "A rule matched",
	no_rule_matched: "No rule matched",
	unknown_caller: "Braze does not know the caller",
	lookup_skipped: "No number to look up",
	lookup_unavailable: "Braze gave no answer in time",
	no_dialer_available: "No dialer was available",
	closed: "All dialers were outside their hours",
	all_dialers_refused: "Every dialer refused the call",
	all_legs_failed: "No line answered",
	over_budget: "Answered after the budget",
};
export const reason = (name) => of(REASONS, name).replace(/^./, (c) => c.toUpperCase());

const list = (values) => [values].flat().join(" or ");
const CONDITIONS = {
	tier: (tiers) => `tier ${list(tiers).replace("none", "none at all")}`,
	score: ({ from, below }) =>
		`score ${[from != null && `${from} or more`, below != null && `below ${below}`].filter(Boolean).join(" and ")}`,
	lookup: (outcomes) => `look-up ${list(outcomes)}`,
	attribute: (wanted) =>
		Object.entries(wanted)
			.map(([name, values]) => `${name} ${list(values)}`)
			.join(" and "),
	called: (numbers) => `called ${list(numbers)}`,
	caller: (numbers) => `number ${list(numbers)}`,
	caller_kind: (kinds) => `${list(kinds)} callers`,
	hours: (names) => `while ${list(names)} is open`,
	not_hours: (names) => `while ${list(names)} is closed`,
	list: (names) => `on list ${list(names)}`,
	not_list: (names) => `not on list ${list(names)}`,
	called_before_within: (when) =>
		when === "never" ? "who never called before" : `who called within ${Math.round(when.seconds / 60)} min`,
	share: (share) => `${share} of 100`,
};
/** What a rule asks of a call. */
export const conditions = (when) =>
	Object.entries(when)
		.map(([name, wanted]) => (CONDITIONS[name] ?? plain)(wanted))
		.join(", ");
const step = (dialers) =>
	typeof dialers === "string"
		? dialers
		: Object.entries(dialers)
				.map(([name, weight]) => `${name} (${weight})`)
				.join(" or ");
/** What becomes of a call that a rule takes. */
export const action = ({ dialers, number, reject, message }) =>
	dialers
		? `go to ${dialers.map(step).join(", then ")}`
		: number
			? `go to ${number}`
			: reject
				? `are refused (${reject})`
				: `hear “${message}”`;

const KINDS = {
	call_decided: "Call decided",
	call_adopted: "Call adopted",
	handoff_intended: "Handoff begins",
	handoff_concluded: "Handoff ended",
	call_answered: "Answer given",
	missed_announced: "Call back announced",
	dial_ended: "Dial ended",
	leg_reported: "Leg progress",
	call_reaped: "Call closed by look-up",
	call_ended: "End reported",
	call_corrected: "End corrected",
	webhook_unusable: "Unusable webhook",
	profile_pushed: "Profile pushed",
	health_changed: "Health changed",
	incident_opened: "Incident opened",
	incident_resolved: "Incident resolved",
	incident_acknowledged: "Incident acknowledged",
	alerts_muted: "Alerts muted",
	service_started: "Service started",
	service_stopped: "Service stopped",
	ruleset_loaded: "Rule set in force",
	accessed: "Access",
	config_changed: "Configuration changed",
	config_refused: "Configuration refused",
	pruned: "Records pruned",
	incident_reminded: "Incident goes on",
	alert_tested: "Test message",
	day_summed: "Summary of a day",
	signing_key_named: "Signing key",
	rollback_accepted: "Roll-back accepted",
	caller_erased: "Caller erased",
	secret_rotated: "Secret changed",
	exported: "Records exported",
	clock_stepped: "Clock stepped",
	completeness_checked: "Compared with Twilio",
	draft_changed: "Draft of the rules changed",
	score_refreshed: "Fresh score came",
	draft_differs: "Draft would send it elsewhere",
	list_changed: "List changed",
	key_changed: "Key made or revoked",
};
export const kind = (name) => KINDS[name] ?? capital(plain(name));

const FAILURES = {
	timeout: "no answer in time",
	connect: "no connection",
	reset: "the connection broke",
	unauthorized: "credentials refused",
	rate_limited: "it limits our requests",
	server_error: "server error",
	rejected: "request refused",
	malformed: "unreadable answer",
	interrupted: "we were restarted in between",
	breaker_open: "circuit open, not asked",
	no_time: "no time left to ask",
};
export const failure = (name) => of(FAILURES, name);

const OUTCOMES = {
	accepted: "accepted the call",
	refused: "refused",
	retryable: "failed",
	unknown: "was asked; its outcome is unknown",
};
export const outcome = (name) => of(OUTCOMES, name);

const STATES = {
	closed: "Taking calls",
	unavailable: "Takes no calls",
	open: "Failing",
	half_open: "On trial",
	drained: "Taken out",
};
export const dialerState = (state) => of(STATES, state);
export const dialerTone = (state) =>
	({ closed: "ok", open: "bad", drained: "held", unavailable: "warn", half_open: "warn" })[state] ?? "";
export const dialerIcon = (state) =>
	({ closed: "check", open: "cross", drained: "pause", unavailable: "warn", half_open: "warn" })[state] ?? "info";
/** What ails a dialer, in words. */
export function ails({ state, reason }) {
	const [, kind, status] = /^(\w+)(?: \((\d+)\))?$/.exec(reason ?? "") ?? [];
	if (kind === "server_error" && status) return `HTTP ${status}`;
	return FAILURES[kind] ?? (reason || dialerState(state).toLowerCase());
}
/** Names in a row: a, b and c. */
export const all = (names) =>
	names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names.at(-1)}` : String(names[0] ?? "");
const BREAKERS = { closed: "closed", open: "open", half_open: "half-open" };
export const breaker = (state) => of(BREAKERS, state);

/** The state of a leg: `ringing`, or `{ ended: "busy" }`. */
export const leg = (status) =>
	typeof status === "string"
		? plain(status)
		: Object.entries(status ?? {})
				.map(([name, how]) => `${plain(name)}, ${plain(how)}`)
				.join();
export { plain };
