//! Settings that contradict each other across sections.

use std::collections::BTreeSet;

use super::braze::MIN_TIMEOUT;
use super::duration;
use super::problem::Fault;
use super::reader::Reader;
use super::routing::{Routing, RoutingSection};
use super::rule_tests::NamedTest;
use super::rules::{NamedRule, NamedValue};
use super::server::Server;
use super::twilio::{CallerId, Twilio};
use crate::deadline::{ANSWER_RESERVE, HANDOFF_RESERVE};
use crate::routing::{self, DialerId, NO_TIER, Reachability, RulesInForce};
use crate::twiml::Connect;
use crate::{braze, dialer};

/// What stands in the example file and is nobody's, by key. `init` leaves it where no value was given.
const PLACEHOLDERS: [(&str, &str); 8] = [
    ("server.public_url", "https://calls.example.com"),
    ("twilio.account_sid", "AC00000000000000000000000000000000"),
    ("dialers.dialfire.connect", "+493012345678"),
    ("dialers.dialfire.campaign", "AB12CD34EF56GH78"),
    ("dialers.zendesk.connect", "sip:sales@acme.sip.twilio.com"),
    ("dialers.zendesk.subdomain", "acme"),
    ("dialers.zendesk.email", "router@acme.example"),
    ("alerts.email.smtp", "smtps://mail.example.com:465"),
];

/// Values of the example that nobody has replaced are told one by one.
pub(super) fn warn_of_placeholders(reader: &Reader<'_>) {
    if !reader.context().tells_placeholders {
        return;
    }
    for (key, placeholder) in PLACEHOLDERS {
        if reader.text_at(key) == Some(placeholder) {
            let message = format!("is still {placeholder}, the placeholder of the example");
            let hint = "put your own value in its place";
            reader.warn_at(key, Fault::new(message).hint(hint));
        }
    }
}

/// Webhooks without a verified signature stay on this machine.
pub(super) fn check_signatures(reader: &Reader<'_>, server: &Server, twilio: &Twilio) {
    if !twilio.verify_signature && !server.listens_on_loopback() {
        reader.error_at(
            "twilio.verify_signature",
            Fault::new("can be false only while server.listen is a loopback address")
                .hint("set it to true, or listen on 127.0.0.1"),
        );
    }
}

/// The look-up leaves the handoff and the answer their reserves. A timeout that the file does not name is fitted.
pub(super) fn fit_lookup(
    [reader, of_rules]: [&Reader<'_>; 2],
    braze: &mut braze::BrazeSettings,
    routing: &Routing,
) {
    let reserve = HANDOFF_RESERVE + ANSWER_RESERVE;
    let share = routing.budget.saturating_sub(reserve);
    let budget = duration::render(routing.budget);
    if share < MIN_TIMEOUT {
        let message =
            format!("of {budget} leaves no time to ask Braze, so every caller counts as unknown");
        let least = duration::render(reserve + MIN_TIMEOUT);
        let fault = Fault::new(message).hint(format!("give it at least {least}"));
        of_rules.warn_at("routing.budget", fault);
    }
    let most = share.max(MIN_TIMEOUT);
    if braze.timeout <= most {
        return;
    }
    if reader.holds("braze.timeout") {
        let [timeout, reserve, most] = [braze.timeout, reserve, most].map(duration::render);
        let message = format!(
            "of {timeout} does not fit into routing.budget of {budget}: handoff and answer need {reserve} of it"
        );
        let hint = format!("lower it to {most}, or raise the budget");
        reader.error_at("braze.timeout", Fault::new(message).hint(hint));
    }
    braze.timeout = most;
}

/// Every tier can be told from every other, by name and by score.
pub(super) fn check_tiers(reader: &Reader<'_>, routing: &RoutingSection) {
    for (idx, (path, tier)) in routing.tiers.iter().enumerate() {
        let earlier = || routing.tiers.iter().take(idx).map(|(_, tier)| tier);
        let name = tier.name.as_str();
        if name.eq_ignore_ascii_case(NO_TIER) {
            let fault = Fault::new(format!(
                "is {name}, which stands for callers without a tier"
            ));
            reader.error_at(
                &format!("{path}.name"),
                fault.hint("give the tier another name"),
            );
        }
        if earlier().any(|other| other.name.as_str().eq_ignore_ascii_case(name)) {
            let fault = Fault::new(format!("is {name}, which is a tier already"));
            let fault = fault.hint("names are compared without regard to case");
            reader.error_at(&format!("{path}.name"), fault);
        }
        if let Some(twin) = earlier().find(|other| other.min_score == tier.min_score) {
            let (score, twin) = (tier.min_score, &twin.name);
            let fault = Fault::new(format!("is {score}, where tier {twin} starts too"));
            let fault = fault.hint("give every tier a min_score of its own");
            reader.error_at(&format!("{path}.min_score"), fault);
        }
    }
}

/// Rules have names of their own, name tiers that exist, and can match.
pub(super) fn check_rules(reader: &Reader<'_>, routing: &RoutingSection) {
    let tiers = routing.tiers.iter().map(|(_, tier)| tier.name.as_str());
    let tiers: Vec<&str> = tiers.collect();
    let hours: Vec<&str> = routing
        .hours
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let lists: Vec<&str> = routing.lists.keys().map(String::as_str).collect();
    let attributes: Vec<&str> = routing.attributes.iter().map(String::as_str).collect();
    for (idx, rule) in routing.rules.iter().enumerate() {
        let earlier = routing.rules.get(..idx).unwrap_or_default();
        let name = &rule.rule.name;
        if earlier.iter().any(|other| other.rule.name == *name) {
            let fault = Fault::new(format!("is \"{name}\", which is a rule already"));
            let fault = fault.hint("decisions are recorded under the name of their rule");
            reader.error_at(&format!("{}.name", rule.path), fault);
        }
        let known = tiers.iter().copied().chain([NO_TIER]);
        let known: Vec<&str> = known.collect();
        for (path, name) in &rule.tiers {
            if !known.iter().any(|tier| tier.eq_ignore_ascii_case(name)) {
                let listed = || match tiers.as_slice() {
                    [] => "add [[routing.tiers]]".to_owned(),
                    tiers => format!("the tiers are {}", tiers.join(", ")),
                };
                let fault = Fault::new(format!("is {name}, which is not a tier"));
                reader.error_at(path, fault.nearest(name, tiers.iter().copied(), listed));
            }
        }
        check_names(
            reader,
            &rule.attributes,
            "an attribute",
            "attributes",
            &attributes,
        );
        check_names(reader, &rule.hours, "hours", "hours", &hours);
        check_names(reader, &rule.lists, "a list", "lists", &lists);
    }
}

/// Limits are those of dialers that exist, and name hours that exist.
pub(super) fn check_limits(reader: &Reader<'_>, routing: &RoutingSection, dialers: &[&str]) {
    let hours: Vec<&str> = routing
        .hours
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    for limits in &routing.limits {
        let (path, name) = &limits.dialer;
        if !dialers.contains(&name.as_str()) {
            let listed = || format!("the dialers are {}", dialers.join(", "));
            let fault = Fault::new(format!("is for {name}, which is not a dialer"));
            reader.error_at(path, fault.nearest(name, dialers.iter().copied(), listed));
        }
        check_names(reader, limits.hours.as_slice(), "hours", "hours", &hours);
        let of = &limits.limits;
        let all = [
            of.max_active,
            of.max_per_hour,
            of.max_per_day,
            of.max_per_month,
        ];
        if all.contains(&Some(0)) {
            let fault = Fault::new(format!(
                "({name}) takes no call: a limit of 0 keeps every call away"
            ));
            reader.warn_at(path, fault.hint("leave the limit out, or drain the dialer"));
        }
    }
}

/// Names of one kind stand for what exists. `all` are those that do, under `[routing] key`.
fn check_names(reader: &Reader<'_>, named: &[NamedValue], what: &str, key: &str, all: &[&str]) {
    for (path, name) in named
        .iter()
        .filter(|(_, name)| !all.contains(&name.as_str()))
    {
        let listed = || match all {
            [] => format!("add it to routing.{key}"),
            all => format!("routing.{key} has {}", all.join(", ")),
        };
        let fault = Fault::new(format!("is {name}, which is not {what} of [routing]"));
        reader.error_at(path, fault.nearest(name, all.iter().copied(), listed));
    }
}

/// Every rule can be reached, and every dialer by a rule or the default; callers outside all hours are told so.
pub(super) fn check_reachability(
    reader: &Reader<'_>,
    routing: &RoutingSection,
    rules: &RulesInForce,
    named_tiers: bool,
) {
    const FEW: usize = 5;
    let found = routing::reachability(rules, reader.context().now, named_tiers);
    for (rule, found) in routing.rules.iter().zip(&found) {
        let name = &rule.rule.name;
        let fault = match found {
            Reachability::Reachable(_) => continue,
            Reachability::NotSettled => Fault::new(format!(
                "(\"{name}\") may never match: whether a call comes to it is not settled in 100,000 steps"
            ))
            .hint("make it and the rules above it simpler, or write a test that comes to it"),
            Reachability::Unreachable { taken_by } if taken_by.is_empty() => Fault::new(format!(
                "(\"{name}\") never matches: its conditions contradict each other"
            ))
            .hint("a call has to meet all of them"),
            Reachability::Unreachable { taken_by } => {
                let few = taken_by.iter().take(FEW).map(|name| format!("\"{name}\""));
                let more = match taken_by.len().saturating_sub(FEW) {
                    0 => String::new(),
                    n => format!(" and {n} more"),
                };
                let few = few.collect::<Vec<_>>().join(", ");
                let take = if taken_by.len() == 1 { "takes" } else { "take" };
                let why = format!("(\"{name}\") never matches: {few}{more} above it {take} all of its calls");
                let hint = "the first rule that matches wins; move this one up or take it out";
                Fault::new(why).hint(hint)
            }
        };
        reader.warn_at(&rule.path, fault);
    }
    let is_out = |found: &Reachability| matches!(found, Reachability::Unreachable { .. });
    let reached: Vec<DialerId> = rules
        .rules
        .iter()
        .zip(&found)
        .filter(|(_, found)| !is_out(found))
        .flat_map(|(rule, _)| rule.dialers())
        .collect();
    let is_reached =
        |dialer: &DialerId| !found.last().is_some_and(is_out) || reached.contains(dialer);
    for dialer in rules.dialers.iter().filter(|dialer| !is_reached(dialer)) {
        let fault = Fault::new(
            "gets no call: no rule that is reached names it, and the default is never reached",
        );
        let hint = "name it in a rule, or take it out";
        reader.warn_at(&format!("dialers.{dialer}"), fault.hint(hint));
    }
    let has_hours = |dialer: &DialerId| {
        rules
            .limits
            .get(dialer)
            .is_some_and(|of| of.hours.is_some())
    };
    let answers =
        routing.routing.closed_message.is_some() || routing.routing.closed_number.is_some();
    if !answers && !rules.dialers.is_empty() && rules.dialers.iter().all(has_hours) {
        let fault = Fault::new(
            "give hours to all dialers: outside them callers hear goodbye_message alone",
        );
        let hint = "write closed_message or closed_number";
        reader.warn_at("routing.limits", fault.hint(hint));
    }
}

/// The file's own tests come out as they expect. Rules that none of them comes to, and lists that name nobody, are told.
pub(super) fn run_tests(reader: &Reader<'_>, routing: &RoutingSection, rules: &RulesInForce) {
    let decisions = routing.tests.iter().map(|named| named.test.decision(rules));
    let tested: BTreeSet<String> = decisions.filter_map(|decision| decision.rule).collect();
    for NamedRule { path, rule, .. } in &routing.rules {
        if !tested.contains(&*rule.name) {
            let fault = Fault::new(format!("(\"{}\") has no test", rule.name));
            reader.inform_at(
                path,
                fault.hint("add [[routing.tests]] with a call that comes to it"),
            );
        }
    }
    for (name, list) in &routing.lists {
        if list.summary().numbers == 0 {
            let fault =
                Fault::new("names nobody: only entries that are added while it runs are on it");
            let hint = "switchboard list add adds one; numbers and file name people from the start";
            reader.inform_at(&format!("routing.lists.{name}"), fault.hint(hint));
        }
    }
    for NamedTest { path, test, .. } in &routing.tests {
        if let Some(failure) = test.failure(rules) {
            let fault = Fault::new(format!("(\"{}\") {failure}", test.name));
            let hint = "correct the rules or the test; switchboard explain shows how such a call is decided";
            reader.error_at(path, fault.hint(hint));
        }
    }
}

/// Rules and the default name dialers that exist.
pub(super) fn check_dialer_names(reader: &Reader<'_>, routing: &RoutingSection, dialers: &[&str]) {
    let check = |path: &str, name: &str| {
        if dialers.contains(&name) {
            return;
        }
        let listed = || format!("the dialers are {}", dialers.join(", "));
        let known = dialers.iter().copied();
        reader.error_at(
            path,
            Fault::new(format!("is {name}, which is not a dialer")).nearest(name, known, listed),
        );
    };
    check("routing.default_dialer", &routing.default_dialer);
    if let Some(missed_to) = &routing.routing.missed_to {
        check("routing.missed_to.dialer", missed_to.dialer.as_str());
    }
    for rule in &routing.rules {
        for (idx, (path, name)) in rule.dialers.iter().enumerate() {
            check(path, name);
            let mut earlier = rule.dialers.iter().take(idx);
            if earlier.any(|(_, earlier)| earlier == name) {
                let fault = Fault::new(format!("is {name}, which the rule names already"));
                reader.error_at(path, fault.hint("name every dialer once"));
            }
        }
    }
    let of_tests = routing.tests.iter().flat_map(|test| &test.dialers);
    of_tests.for_each(|(path, name)| check(path, name));
}

/// Tests give lists and attributes that rules can ask for.
pub(super) fn check_tests(reader: &Reader<'_>, routing: &RoutingSection) {
    let lists: Vec<&str> = routing.lists.keys().map(String::as_str).collect();
    let attributes: Vec<&str> = routing.attributes.iter().map(String::as_str).collect();
    for NamedTest { path, test, .. } in &routing.tests {
        let named = |key: &str, name: &str| (format!("{path}.given.{key}"), name.to_owned());
        let given = &test.given;
        let of_lists: Vec<NamedValue> =
            given.lists.iter().map(|name| named("list", name)).collect();
        check_names(reader, &of_lists, "a list", "lists", &lists);
        let profile = given.lookup.profile();
        let names = profile.iter().flat_map(|profile| profile.attributes.keys());
        let names: Vec<NamedValue> = names.map(|name| named("attribute", name)).collect();
        check_names(reader, &names, "an attribute", "attributes", &attributes);
    }
}

/// Every dialer of a plan can be rung in full.
pub(super) fn check_ringing(reader: &Reader<'_>, twilio: &Twilio, longest_plan: usize) {
    let n_lines = twilio.ring_total.as_secs() / twilio.ring_timeout.as_secs().max(1);
    if usize::try_from(n_lines).is_ok_and(|n_lines| n_lines < longest_plan) {
        reader.warn_at(
            "twilio.ring_total",
            Fault::new(format!(
                "of {} is over when {n_lines} of the {longest_plan} dialers of a plan have rung for {} each",
                duration::render(twilio.ring_total),
                duration::render(twilio.ring_timeout),
            ))
            .hint("lower ring_timeout, or raise ring_total to what callers and their carriers wait for"),
        );
    }
}

/// A request cannot take longer than the whole call.
pub(super) fn check_dialer_timeouts(
    reader: &Reader<'_>,
    routing: &Routing,
    dialers: &[dialer::DialerSettings],
) {
    let most = routing.budget.saturating_sub(ANSWER_RESERVE);
    for dialer in dialers.iter().filter(|dialer| dialer.timeout > most) {
        let [timeout, budget] = [dialer.timeout, routing.budget].map(duration::render);
        let message = format!("of {timeout} is never reached: routing.budget is {budget}");
        reader.warn_at(
            &format!("dialers.{}.timeout", dialer.id),
            Fault::new(message),
        );
    }
}

/// A phone that rings for somebody without a number has to be shown one of ours.
pub(super) fn check_shown_number(
    reader: &Reader<'_>,
    twilio: &Twilio,
    routing: &Routing,
    dialers: &[dialer::DialerSettings],
) {
    let is_phone = |dialer: &dialer::DialerSettings| matches!(dialer.connect, Connect::Number(_));
    let rings_phones = routing.last_resort_number.is_some() || dialers.iter().any(is_phone);
    if rings_phones && twilio.number.is_none() && twilio.caller_id == CallerId::Caller {
        reader.warn_at(
            "twilio.number",
            Fault::new(
                "is missing, so callers from SIP and client addresses cannot be put through to phone numbers: \
                 Twilio fails such a leg without a callerId (13214)",
            )
            .hint("write number = \"+49…\" with a number of this Twilio account"),
        );
    }
}
