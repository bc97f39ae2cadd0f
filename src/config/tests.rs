//! Bad files and what is said of them.

mod example;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::context::Permissions;
use super::{
    CallerId, Config, Context, Loaded, Problem, ProblemSeverity, ShownValue, check, find, load,
    parse,
};
use crate::alerts::SmtpSecurity;
use crate::dialer::SettingValue;
use crate::routing::DialerId;

/// Only what is required, and a loopback listener. Every line is named by the tests below.
const MINIMAL: &str = r#"[server]
listen = "127.0.0.1:8080"
public_url = "https://Calls.example.com/"
trusted_proxies = ["127.0.0.1/32"]
[storage]
path = "switchboard.db"

[twilio]
account_sid = "AC0123456789abcdef0123456789ABCDEF"
auth_token = { env = "TWILIO" }

[braze]
base_url = "https://rest.fra-01.braze.eu/"
api_key = { env = "BRAZE" }

[routing]
default_dialer = "web"

[dialers.web]
kind = "http"
connect = "sip:q@pbx.example"
url = "https://dialer.example/calls"
"#;

fn context() -> Context {
    Context::in_directory("/etc/switchboard").with_variables([
        ("TWILIO", "marker-twilio"),
        ("BRAZE", "marker-braze"),
        (
            "HOOK",
            "https://hooks.example.com/marker-hook?sig=marker-sig",
        ),
        ("NO_TOPIC", "https://ntfy.example/"),
        ("EMPTY", ""),
        ("TWO_LINES", "one\ntwo"),
    ])
}

fn loaded(text: &str) -> Loaded {
    parse(text, &context()).unwrap()
}

fn problems(text: &str) -> Vec<Problem> {
    match parse(text, &context()) {
        Ok(loaded) => loaded.warnings,
        Err(rejected) => rejected.problems,
    }
}

fn rendered(text: &str) -> Vec<String> {
    problems(text)
        .iter()
        .map(|problem| problem.render(Path::new("c.toml")))
        .collect()
}

/// The minimal file with `from` replaced, which must occur.
fn with(from: &str, to: &str) -> String {
    assert!(MINIMAL.contains(from), "{from}");
    MINIMAL.replacen(from, to, 1)
}

/// The minimal file with lines added to a section that is there.
fn with_in(section: &str, lines: &str) -> String {
    with(
        &format!("[{section}]\n"),
        &format!("[{section}]\n{lines}\n"),
    )
}

/// The minimal file with lines at its end.
fn with_end(lines: &str) -> String {
    format!("{MINIMAL}{lines}\n")
}

#[test]
fn a_file_with_the_required_keys_alone_gets_the_documented_defaults() {
    let Loaded {
        config, warnings, ..
    } = loaded(MINIMAL);
    assert_eq!(warnings, []);
    assert_eq!(
        config.server.public_url.as_str(),
        "https://Calls.example.com"
    );
    assert!(config.server.docs && !config.server.insecure_http);
    assert_eq!(
        config.storage.path,
        PathBuf::from("/etc/switchboard/switchboard.db")
    );
    assert_eq!(config.storage.retention, Duration::from_hours(90 * 24));
    assert_eq!(config.twilio.auth_tokens[0].expose(), "marker-twilio");
    assert_eq!(config.twilio.caller_id, CallerId::Caller);
    assert_eq!(config.braze.base_url, "https://rest.fra-01.braze.eu");
    assert_eq!(config.braze.timeout, Duration::from_millis(1_500));
    assert_eq!(config.routing.budget, Duration::from_secs(2));
    assert!(config.routing.hold_message.starts_with("Alle Mitarbeiter"));
    assert!(config.auth.keys.is_empty() && config.alerts.email.is_none());
    let dialer = config.dialer(&DialerId::new("web")).unwrap();
    assert_eq!(dialer.timeout, Duration::from_millis(700));
    assert_eq!(config.dialer(&DialerId::new("other")), None);
}

#[test]
fn bad_values_are_named_with_line_and_column() {
    let cases: &[(&str, &str, &str)] = &[
        // from, to, the one line that is said
        (
            "\"127.0.0.1:8080\"",
            "\"localhost:8080\"",
            "c.toml:2:10: error: server.listen must be an address and a port; write 127.0.0.1:8080",
        ),
        (
            "\"127.0.0.1:8080\"",
            "8080",
            "c.toml:2:10: error: server.listen must be a string, not a number",
        ),
        (
            "127.0.0.1:8080\"\npublic_url = \"https://Calls.example.com/\"\ntrusted_proxies = [\"127.0.0.1/32\"]",
            "0.0.0.0:8080\"\npublic_url = \"https://Calls.example.com/\"",
            "c.toml:2:10: error: server.listen would serve plain HTTP to other machines; add [server.tls] or [server.acme], listen on 127.0.0.1, name your proxy in trusted_proxies, or set insecure_http = true",
        ),
        (
            "https://Calls",
            "http://Calls",
            "c.toml:3:14: error: server.public_url must start with https://; http:// is allowed for localhost, 127.0.0.1 and [::1] only",
        ),
        (
            "trusted_proxies = [\"127.0.0.1/32\"]",
            "",
            "c.toml:3:14: warning: server.public_url needs a proxy in front of this loopback listener, and trusted_proxies names none: every request seems to come from this machine, which opens /metrics to all; write trusted_proxies = [\"127.0.0.1/32\", \"::1/128\"]",
        ),
        (
            "[\"127.0.0.1/32\"]",
            "[]",
            "c.toml:3:14: warning: server.public_url needs a proxy in front of this loopback listener, and trusted_proxies names none: every request seems to come from this machine, which opens /metrics to all; write trusted_proxies = [\"127.0.0.1/32\", \"::1/128\"]",
        ),
        (
            "[\"127.0.0.1/32\"]",
            "[\"10.0.0.0/8\", \"proxy\"]",
            "c.toml:4:34: error: server.trusted_proxies[1] must be a network; write \"10.0.0.0/8\" or \"2001:db8::/32\"",
        ),
        (
            "[\"127.0.0.1/32\"]",
            "[\"0.0.0.0/0\"]",
            "c.toml:4:19: warning: server.trusted_proxies trusts every address, so anybody can claim any source in X-Forwarded-For; name the addresses of your proxies",
        ),
        (
            "listen = \"127.0.0.1:8080\"\n",
            "",
            "c.toml:1:1: error: server.listen is missing",
        ),
        (
            "AC0123456789abcdef0123456789ABCDEF",
            "AC01",
            "c.toml:9:15: error: twilio.account_sid must be AC and 32 hexadecimal digits",
        ),
        (
            "auth_token = { env = \"TWILIO\" }\n",
            "",
            "c.toml:8:1: error: twilio.auth_token is missing, so no webhook could be verified; write auth_token = { file = \"…\" } with the token of the Twilio console",
        ),
        (
            "https://rest.",
            "http://rest.",
            "c.toml:13:12: error: braze.base_url must start with https://; http:// is allowed for localhost, 127.0.0.1 and [::1] only",
        ),
        (
            "= \"web\"",
            "= \"wbe\"",
            "c.toml:17:18: error: routing.default_dialer is wbe, which is not a dialer; did you mean web?",
        ),
        (
            "= \"web\"",
            "= \"sales\"",
            "c.toml:17:18: error: routing.default_dialer is sales, which is not a dialer; the dialers are web",
        ),
        (
            "kind = \"http\"",
            "kind = \"htpp\"",
            "c.toml:20:8: error: dialers.web.kind must be one of dialfire, zendesk_talk, http; did you mean http?",
        ),
        (
            "sip:q@pbx.example",
            "030123456",
            "c.toml:21:11: error: dialers.web.connect is not a place to connect a call to: write a phone number like +4930123456 or an address like sip:queue@example.com",
        ),
        (
            "[dialers.web]\n",
            "[dialers.web]\ntimeout = \"70 0\"\n",
            "c.toml:20:11: error: dialers.web.timeout is not a duration; write a whole number and ms, s, m, h or d, like \"1500ms\" or \"5m\"",
        ),
        (
            "dialer.example/calls",
            "acme.zendesk.com/api/v2/calls.json",
            "c.toml:22:7: warning: dialers.web.url ends in /api/v2/calls, which only stores a record of a call and rings nobody; use kind = \"zendesk_talk\", which opens a ticket and connects the call",
        ),
    ];
    for (from, to, expected) in cases {
        assert_eq!(rendered(&with(from, to)), [*expected], "{from} -> {to}");
    }
}

#[test]
fn keys_of_server_storage_and_twilio_keep_to_their_bounds() {
    check_lines(&[
        (
            "server",
            "insecure_http = \"true\"",
            "2:17: error: server.insecure_http must be true or false, not a string; leave the quotes out",
        ),
        (
            "storage",
            "retention = \"89d\"",
            "6:13: error: storage.retention must be at least 90d; audit records are kept for 90 days or longer",
        ),
        (
            "twilio",
            "ring_timeout = \"4s\"",
            "9:16: error: twilio.ring_timeout must lie between 5s and 10m, not 4s",
        ),
        (
            "twilio",
            "ring_timeout = \"5500ms\"",
            "9:16: error: twilio.ring_timeout must be whole seconds",
        ),
        (
            "twilio",
            "ring_timeout = 20",
            "9:16: error: twilio.ring_timeout must be a duration in quotes, not a number; write a whole number and ms, s, m, h or d, like \"1500ms\" or \"5m\"",
        ),
        (
            "twilio",
            "caller_id = \"callr\"",
            "9:13: error: twilio.caller_id must be \"caller\" or a phone number like +4930123456; did you mean caller?",
        ),
        (
            "twilio",
            "api_key_sid = \"SK0123456789abcdef0123456789abcdef\"",
            "9:15: error: twilio.api_key_sid needs api_key_secret beside it; set both or neither",
        ),
        (
            "twilio",
            "shared_keys = [{ id = \"a\", secret = { env = \"TWILIO\" } }, { id = \"a\", secret = { env = \"BRAZE\" } }]",
            "9:15: error: twilio.shared_keys holds the id a twice; Twilio gives every key an id of its own",
        ),
    ]);
}

#[test]
fn keys_of_braze_routing_and_dialers_keep_to_their_bounds() {
    check_lines(&[
        (
            "braze",
            "timeout = \"1501ms\"",
            "13:11: error: braze.timeout must lie between 50ms and 1500ms, not 1501ms",
        ),
        (
            "braze",
            "cache_capacity = -1",
            "13:18: error: braze.cache_capacity must lie between 1 and 100000000",
        ),
        (
            "braze",
            "requests_per_minute = 1.5",
            "13:23: error: braze.requests_per_minute must be a whole number, not a decimal number",
        ),
        (
            "braze",
            "tier_attribute = \"lead_score\"",
            "13:18: error: braze.tier_attribute is the same attribute as score_attribute",
        ),
        (
            "routing",
            "budget = \"11s\"",
            "17:10: error: routing.budget must lie between 500ms and 10s, not 11s",
        ),
        (
            "routing",
            "last_resort_number = \"110\"",
            "17:22: error: routing.last_resort_number is not a phone number in E.164 form: write + and 7 to 15 digits, like +4930123456",
        ),
        (
            "routing",
            "language = \"German\"",
            "17:12: error: routing.language must be a language of Twilio's <Say>, like de-DE or en-US",
        ),
        (
            "dialers.web",
            "headers = { Accept = \"text/plain\", \"X Y\" = \"1\" }",
            "20:44: error: dialers.web.headers.X Y is not a name for a header",
        ),
        (
            "dialers.web",
            "body = { a = \"{caller}\", b = \"{callr}\" }",
            "20:30: error: dialers.web.body.b holds {callr}, which is not a placeholder; did you mean {caller}?",
        ),
        (
            "dialers.web",
            "body = { a = \"{phone}\" }",
            "20:14: error: dialers.web.body.a holds {phone}, which is not a placeholder; the placeholders are {caller}, {called}, {score}, {tier}, {call_sid}, {request_id}",
        ),
        (
            "dialers.web",
            "body = { a = \"{caller\" }",
            "20:14: error: dialers.web.body.a holds { without }",
        ),
    ]);
}

/// Adds each line to its section and expects the one problem that is said of it.
fn check_lines(cases: &[(&str, &str, &str)]) {
    for (section, line, expected) in cases {
        assert_eq!(
            rendered(&with_in(section, line)),
            [format!("c.toml:{expected}")],
            "[{section}] {line}"
        );
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn settings_that_contradict_each_other_are_refused() {
    let remote = |lines: &str| {
        with(
            "listen = \"127.0.0.1:8080\"",
            &format!("listen = \"0.0.0.0:8080\"\n{lines}"),
        )
    };
    let cases: Vec<(String, &str)> = vec![
        (
            remote("insecure_http = true")
                .replace("[twilio]", "[twilio]\nverify_signature = false"),
            "10:20: error: twilio.verify_signature can be false only while server.listen is a loopback address; set it to true, or listen on 127.0.0.1",
        ),
        (
            with_end(
                "[server.tls]\ncertificate = \"a\"\nprivate_key = \"b\"\n[server.acme]\ndomains = [\"calls.example.com\"]\ncontact = \"ops@example.com\"",
            ),
            "26:1: error: server.acme cannot be used together with server.tls; keep [server.tls] for certificate files or [server.acme] for automatic ones",
        ),
        (
            with_in("routing", "budget = \"1s\"")
                .replace("[braze]", "[braze]\ntimeout = \"600ms\""),
            "13:11: error: braze.timeout of 600ms does not fit into routing.budget of 1s: handoff and answer need 500ms of it; lower it to 500ms, or raise the budget",
        ),
        (
            with_end(
                "[dialers.\"a b\"]\nkind = \"http\"\nconnect = \"sip:a@b\"\nurl = \"https://a.example\"",
            ),
            "23:10: error: dialers.a b is not a name for a dialer; use 1 to 32 letters, digits, _ and -",
        ),
        (
            with_end(
                "[dialers.Braze]\nkind = \"http\"\nconnect = \"sip:a@b\"\nurl = \"https://a.example\"",
            ),
            "23:10: error: dialers.Braze is what records call the look-up; choose another name",
        ),
        (
            with_end(
                "[dialers.z]\nkind = \"zendesk_talk\"\nconnect = \"sip:a@b\"\nemail = \"a@b.example\"\ntoken = { env = \"TWILIO\" }",
            ),
            "23:1: error: dialers.z.subdomain is missing; write subdomain = \"acme\" for https://acme.zendesk.com",
        ),
        (
            with_end(
                "[dialers.z]\nkind = \"dialfire\"\nconnect = \"sip:a@b\"\ncampaign = \"AB-12\"\ntask = \"t\"\ntoken = { env = \"TWILIO\" }",
            ),
            "26:12: error: dialers.z.campaign must be a campaign id of Dialfire like AB12CD34EF56GH78",
        ),
        (
            with_end(
                "[alerts]\nfailure_rate_percent = 101\n[alerts.webhook]\nurl = \"https://a.example\"\nsecret = { env = \"TWILIO\" }",
            ),
            "24:24: error: alerts.failure_rate_percent must lie between 0 and 100; the value is in percent: 5 means 5 %",
        ),
        (
            with_end(
                "[alerts]\ndaily_summary = \"7:00\"\n[alerts.webhook]\nurl = \"https://a.example\"\nsecret = { env = \"TWILIO\" }",
            ),
            "24:17: error: alerts.daily_summary must be a time of day; write \"07:00\", from 00:00 to 23:59",
        ),
        (
            with_end(
                "[alerts]\ndaily_summary = \"24:00\"\n[alerts.webhook]\nurl = \"https://a.example\"\nsecret = { env = \"TWILIO\" }",
            ),
            "24:17: error: alerts.daily_summary must be a time of day; write \"07:00\", from 00:00 to 23:59",
        ),
        (
            with_end(
                "[alerts]\ndaily_summary = \"07:00\"\ntime_zone = \"Europe/Bonn\"\n[alerts.webhook]\nurl = \"https://a.example\"\nsecret = { env = \"TWILIO\" }",
            ),
            "25:13: error: alerts.time_zone is no time zone of the IANA database; write \"UTC\", \"Europe/Berlin\" or another name of it",
        ),
        (
            with_end("[alerts.channels.room]\nkind = \"slak\"\nurl = { env = \"TWILIO\" }"),
            "24:8: error: alerts.channels.room.kind must be one of slack, teams, pagerduty, ntfy, http; did you mean slack?",
        ),
        (
            with_end("[alerts.channels.room]\nkind = \"slack\"\nurl = { env = \"TWILIO\" }"),
            "25:7: error: alerts.channels.room.url must start with https:// or http://",
        ),
        (
            with_end("[alerts.channels.phones]\nkind = \"ntfy\"\nurl = { env = \"NO_TOPIC\" }"),
            "25:7: error: alerts.channels.phones.url names no topic; it ends in the topic, like https://ntfy.example/topic",
        ),
        (
            with_end(
                "[alerts.channels.other]\nkind = \"http\"\nurl = { env = \"HOOK\" }\nbody = { a = \"{titel}\" }",
            ),
            "26:14: error: alerts.channels.other.body.a holds {titel}, which is not a placeholder; did you mean {title}?",
        ),
        (
            with_end(
                "[alerts]\nheartbeat_every = \"1m\"\n[alerts.channels.room]\nkind = \"slack\"\nurl = { env = \"HOOK\" }",
            ),
            "24:19: warning: alerts.heartbeat_every has no effect without heartbeat",
        ),
        (
            with_end(
                "[alerts]\ntime_zone = \"Europe/Berlin\"\nsilent_numbers = false\n[alerts.webhook]\nurl = \"https://a.example\"\nsecret = { env = \"TWILIO\" }",
            ),
            "24:13: warning: alerts.time_zone has no effect without daily_summary; add daily_summary = \"07:00\", or leave time_zone out",
        ),
        (
            with_end(
                "[alerts.email]\nto = \"ops@example.com\"\nfrom = \"sb@example.com\"\nsmtp = \"https://mail.example.com\"",
            ),
            "26:8: error: alerts.email.smtp must start with smtps:// or smtp://",
        ),
        (
            with_end("[[auth.keys]]\nname = \"ops\"\nrole = \"admin\"\nhash = \"zz\""),
            "26:8: error: auth.keys[0].hash must be a hash of 64 hexadecimal digits; make a key and its hash with: switchboard key new",
        ),
        (
            with_end("[logging]\nlevel = \"inof\""),
            "24:9: error: logging.level must be a level; did you mean info?",
        ),
    ];
    check_texts(&cases);
}

#[test]
fn rules_and_tiers_that_contradict_each_other_are_named() {
    let rule = |lines: &str| {
        with_end(&format!(
            "[[routing.tiers]]\nname = \"hot\"\nmin_score = 80\n[[routing.tiers]]\nname = \"cold\"\nmin_score = 0\n{lines}"
        ))
    };
    check_texts(&[
        (
            rule("[[routing.rules]]\nname = \"a\"\ntier = \"htt\"\ndialers = [\"web\"]"),
            "31:8: error: routing.rules[0].tier is htt, which is not a tier; did you mean hot?",
        ),
        (
            rule("[[routing.rules]]\nname = \"a\"\ndialers = [\"web\", \"wbe\"]"),
            "31:19: error: routing.rules[0].dialers[1] is wbe, which is not a dialer; did you mean web?",
        ),
        (
            rule("[[routing.rules]]\nname = \"a\"\ndialers = []"),
            "31:11: error: routing.rules[0].dialers is an empty list, so the rule sends the call nowhere; name at least one dialer",
        ),
        (
            rule(
                "[[routing.rules]]\nname = \"a\"\ntier = \"hot\"\ndialers = [\"web\"]\n[[routing.rules]]\nname = \"a\"\ndialers = [\"web\"]",
            ),
            "34:8: error: routing.rules[1].name is \"a\", which is a rule already; decisions are recorded under the name of their rule",
        ),
        (
            rule(
                "[[routing.rules]]\nname = \"a\"\ndialers = [\"web\"]\n[[routing.rules]]\nname = \"b\"\ntier = \"hot\"\ndialers = [\"web\"]",
            ),
            "32:1: warning: routing.rules[1] (\"b\") never matches: \"a\" above it takes all of its calls; the first rule that matches wins; move this one up or take it out",
        ),
        (
            rule(
                "[[routing.rules]]\nname = \"a\"\ntier = [\"hot\", \"COLD\"]\ndialers = [\"web\"]\n[[routing.rules]]\nname = \"b\"\ntier = \"cold\"\ndialers = [\"web\"]",
            ),
            "33:1: warning: routing.rules[1] (\"b\") never matches: \"a\" above it takes all of its calls; the first rule that matches wins; move this one up or take it out",
        ),
        (
            rule("[[routing.tiers]]\nname = \"HOT\"\nmin_score = 1"),
            "30:8: error: routing.tiers[2].name is HOT, which is a tier already; names are compared without regard to case",
        ),
        (
            rule("[[routing.tiers]]\nname = \"warm\"\nmin_score = 80.0"),
            "31:13: error: routing.tiers[2].min_score is 80, where tier hot starts too; give every tier a min_score of its own",
        ),
    ]);
}

/// Expects the one problem that is said of each text.
fn check_texts(cases: &[(String, &str)]) {
    for (text, expected) in cases {
        assert_eq!(rendered(text), [format!("c.toml:{expected}")], "{text}");
    }
}

#[test]
fn unknown_keys_are_refused_by_name_with_the_nearest_known_key() {
    let text = with_in(
        "routing",
        "  budgt = \"2s\"\ncache_ttl = \"1h\"\ncolour = 1",
    )
    .replace("[storage]", "[storag]");
    assert_eq!(
        rendered(&text),
        [
            "c.toml: error: storage is missing; add the section [storage]",
            "c.toml:5:2: error: storag is not a known key; did you mean storage?",
            "c.toml:17:3: error: routing.budgt is not a known key; did you mean budget?",
            "c.toml:18:1: error: routing.cache_ttl is not a known key; cache_ttl is a key of [braze]",
            "c.toml:19:1: error: routing.colour is not a known key",
        ]
    );
}

#[test]
fn every_problem_is_found_at_once_in_the_order_of_the_file() {
    let text = with("\"127.0.0.1:8080\"", "\"here\"")
        .replace("{ env = \"TWILIO\" }", "{ env = \"NOWHERE\" }")
        .replace(
            "url = \"https://dialer",
            "headers = 3\nurl = \"gopher://dialer",
        )
        .replace("= \"web\"", "= \"wob\"");
    let found = problems(&text);
    let keys: Vec<(&str, Option<usize>)> = found.iter().map(|p| (p.key.as_str(), p.line)).collect();
    assert_eq!(
        keys,
        [
            ("server.listen", Some(2)),
            ("twilio.auth_token", Some(10)),
            ("routing.default_dialer", Some(17)),
            ("dialers.web.headers", Some(22)),
            ("dialers.web.url", Some(23)),
        ]
    );
}

#[test]
fn an_empty_file_lacks_every_required_section() {
    let found = rendered("");
    assert_eq!(found.len(), 6);
    assert!(found.contains(&"c.toml: error: braze is missing; add the section [braze]".to_owned()));
}

#[test]
fn text_that_is_no_toml_is_refused_with_its_place() {
    let broken = with("kind = \"http\"", "kind = \"http").replace("\"web\"", "web");
    let found = problems(&broken);
    assert_eq!(
        found.iter().map(|p| p.line).collect::<Vec<_>>(),
        [Some(17), Some(20)]
    );
    assert!(
        found
            .iter()
            .all(|p| p.is_error() && p.message.starts_with("this is not TOML: ")),
        "{found:?}"
    );
}

#[test]
fn a_key_that_stands_twice_does_not_hide_other_problems() {
    let text = with_in("routing", "budgt = 1\nmax_hold = \"1m\"\nmax_hold = \"2m\"");
    assert_eq!(
        rendered(&text),
        [
            "c.toml:17:1: error: routing.budgt is not a known key; did you mean budget?",
            "c.toml:19:1: error: max_hold stands here a second time",
        ]
    );
    assert_eq!(
        rendered(&with_end("[routing]\nlanguage = 1")),
        [
            "c.toml:23:2: error: routing stands here a second time",
            "c.toml:24:12: error: routing.language must be a string, not a number",
        ]
    );
}

#[test]
fn columns_are_counted_in_characters() {
    let text = with_in("dialers.web", "body = { \"größe\" = \"ü\", b = \"{x}\" }");
    assert_eq!(
        (problems(&text)[0].line, problems(&text)[0].column),
        (Some(20), Some(29))
    );
}

#[test]
fn a_lookup_timeout_that_the_file_does_not_name_is_fitted_to_the_budget() {
    let timeout = |budget: &str| {
        loaded(&with_in("routing", &format!("budget = \"{budget}\"")))
            .config
            .braze
            .timeout
    };
    assert_eq!(timeout("1s"), Duration::from_millis(500));
    assert_eq!(timeout("5s"), Duration::from_millis(1_500));
    let tight = loaded(&with_in("routing", "budget = \"500ms\""));
    let keys: Vec<&str> = tight.warnings.iter().map(|p| p.key.as_str()).collect();
    assert_eq!(keys, ["routing.budget", "dialers.web.timeout"]);
}

#[test]
fn dialers_keep_the_order_of_the_file_and_rules_the_spelling_of_tiers() {
    let dialer = |name: &str| {
        format!(
            "[dialers.{name}]\nkind = \"http\"\nconnect = \"sip:a@b\"\nurl = \"https://a.example\"\n"
        )
    };
    let text = with_end(&format!(
        "{}{}[[routing.tiers]]\nname = \"Hot\"\nmin_score = 80\n[[routing.rules]]\nname = \"r\"\ntier = \"hot\"\ndialers = \"zoe\"",
        dialer("zoe"),
        dialer("abe"),
    ));
    let Config {
        ruleset, dialers, ..
    } = loaded(&text).config;
    let names = |dialers: &[DialerId]| dialers.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(&ruleset.dialers), ["web", "zoe", "abe"]);
    assert_eq!(dialers[1].id.as_str(), "zoe");
    assert_eq!(ruleset.rules[0].when.tiers()[0].as_str(), "Hot");
    assert_eq!(names(&ruleset.rules[0].dialers()), ["zoe"]);
}

#[test]
fn the_summary_of_a_day_has_a_time_and_a_zone_and_is_off_by_itself() {
    let alerts = |lines: &str| {
        let webhook =
            "[alerts.webhook]\nurl = \"https://a.example\"\nsecret = { env = \"TWILIO\" }";
        loaded(&with_end(&format!("[alerts]\n{lines}\n{webhook}")))
            .config
            .alerts
    };
    let off = alerts("");
    assert_eq!(
        (off.daily_summary, off.time_zone.iana_name()),
        (None, Some("UTC"))
    );
    let on = alerts("daily_summary = \"06:30\"\ntime_zone = \"Europe/Berlin\"");
    assert_eq!(on.daily_summary, Some(jiff::civil::time(6, 30, 0, 0)));
    assert_eq!(on.time_zone.iana_name(), Some("Europe/Berlin"));
}

#[test]
fn of_a_channel_the_kind_and_the_host_are_shown_and_no_part_of_its_address_that_is_secret() {
    let config = loaded(&with_end(
        "[alerts]\nheartbeat = { env = \"HOOK\" }\n[alerts.channels.room]\nkind = \"slack\"\nurl = { env = \"HOOK\" }",
    ))
    .config;
    let shown = super::show(&config);
    let value = |key: &str| {
        let found = shown.iter().find(|shown| shown.key == key);
        found.map(|shown| shown.value.clone())
    };
    let plain = |text: &str| Some(ShownValue::Plain(text.to_owned()));
    assert_eq!(value("alerts.channels.room.kind"), plain("slack"));
    let host = plain("https://hooks.example.com");
    assert_eq!(value("alerts.channels.room.host"), host);
    for key in ["alerts.channels.room.url", "alerts.heartbeat"] {
        assert!(matches!(value(key), Some(ShownValue::Secret(_))), "{key}");
    }
    assert_eq!(value("alerts.heartbeat_every"), plain("1m"));
    assert!(!format!("{shown:?} {config:?}").contains("marker-"));
}

#[test]
fn mail_servers_and_zendesk_addresses_are_understood() {
    let smtp = |url: &str| {
        let section =
            format!("[alerts.email]\nto = [\"a@b.c\"]\nfrom = \"a@b.c\"\nsmtp = \"{url}\"");
        loaded(&with_end(&section))
            .config
            .alerts
            .email
            .unwrap()
            .smtp
    };
    for (url, security, port) in [
        ("smtps://mail.example.com", SmtpSecurity::Tls, 465),
        ("smtp://mail.example.com", SmtpSecurity::StartTls, 587),
        ("smtp://[::1]:2525", SmtpSecurity::Loopback, 2525),
    ] {
        assert_eq!(
            (smtp(url).security, smtp(url).port),
            (security, port),
            "{url}"
        );
    }
    assert_eq!(smtp("smtp://[::1]:2525").to_string(), "smtp://[::1]:2525");
    let zendesk = |line: &str| {
        let section = format!(
            "[dialers.z]\nkind = \"zendesk_talk\"\nconnect = \"sip:a@b\"\nemail = \"a@b.c\"\ntoken = {{ env = \"TWILIO\" }}\n{line}"
        );
        let config = loaded(&with_end(&section)).config;
        let entries = config.dialers[1].api.entries().into_iter();
        let mut base_urls = entries.filter(|(key, _)| key == "base_url");
        match base_urls.next().unwrap().1 {
            SettingValue::Plain(url) => url,
            other @ (SettingValue::Address(_) | SettingValue::Secret(_)) => panic!("{other:?}"),
        }
    };
    assert_eq!(zendesk("subdomain = \"acme\""), "https://acme.zendesk.com");
    assert_eq!(
        zendesk("subdomain = \"acme\"\nbase_url = \"http://127.0.0.1:9\""),
        "http://127.0.0.1:9"
    );
}

#[test]
fn secrets_that_are_not_there_or_cannot_be_meant_are_refused() {
    let cases = [
        (
            "{ env = \"NOWHERE\" }",
            "needs the environment variable NOWHERE, which is not set",
        ),
        ("{ env = \"EMPTY\" }", "is an empty secret"),
        (
            "{ env = \"TWO_LINES\" }",
            "holds a line break or another character that cannot be seen, so it cannot be sent",
        ),
        ("\"\"", "is an empty secret"),
        ("12", "must be a secret, not a number"),
        ("{}", "does not say where the secret is"),
        (
            "{ fiel = \"/x\" }",
            "says fiel, which is no form of a secret",
        ),
        (
            "{ file = \"/x\", env = \"X\" }",
            "names more than one place for the secret",
        ),
        ("{ credential = \"../x\" }", "is no name of a credential"),
        (
            "{ credential = \"x\" }",
            "needs the credential x, but $CREDENTIALS_DIRECTORY is not set",
        ),
        (
            "{ file = \"/nowhere/x\" }",
            "cannot be read from /nowhere/x: No such file or directory (os error 2)",
        ),
        ("{ file = 3 }", "must be a string, not a number"),
    ];
    for (form, message) in cases {
        let found = problems(&with("{ env = \"BRAZE\" }", form));
        assert_eq!(found.len(), 1, "{form}: {found:?}");
        assert_eq!(
            found[0].message,
            format!("braze.api_key {message}"),
            "{form}"
        );
        assert_eq!(
            (found[0].line, found[0].severity),
            (Some(14), ProblemSeverity::Error),
            "{form}"
        );
    }
    let found = problems(&with("{ env = \"BRAZE\" }", "{ fiel = \"/x\" }"));
    assert!(
        found[0]
            .hint
            .as_deref()
            .unwrap()
            .starts_with("did you mean file? write { file = ")
    );
}

#[cfg(unix)]
#[test]
fn what_editors_put_around_a_secret_is_no_part_of_it_and_what_stands_in_it_is_refused_with_its_line()
 {
    let directory = TempDir::new().unwrap();
    let forms = ["{ file = \"secret\" }", "{ credential = \"secret\" }"];
    let context = || {
        Context::in_directory(directory.path())
            .with_variables([("CREDENTIALS_DIRECTORY", directory.path().to_str().unwrap())])
    };
    let text = |form: &str| with("{ env = \"TWILIO\" }", form).replace("{ env = \"BRAZE\" }", form);
    for around in [
        "\u{feff}token\n",
        "token\r\n",
        "\u{feff}token\r\n\r\n",
        " \ttoken \n",
        "\n\ntoken",
        "token\u{a0}",
    ] {
        write_file(&directory, "secret", around, 0o600);
        for form in forms {
            let Loaded {
                config, warnings, ..
            } = parse(&text(form), &context()).unwrap();
            assert_eq!(config.twilio.auth_tokens[0].expose(), "token", "{around:?}");
            assert_eq!(config.braze.api_key.expose(), "token", "{around:?}");
            assert_eq!(warnings, []);
        }
        let with_variable = context().with_variables([("SECRET", around)]);
        let Loaded { config, .. } = parse(&text("{ env = \"SECRET\" }"), &with_variable).unwrap();
        assert_eq!(config.twilio.auth_tokens[0].expose(), "token", "{around:?}");
    }
    for (within, line) in [
        ("to\u{feff}ken\n", 1),
        ("to\u{200b}ken", 1),
        ("to\0ken", 1),
        ("one\ntwo\n", 1),
        ("\n\none\r\ntwo\n", 3),
        ("\u{feff}\ntok\ten", 2),
    ] {
        let path = write_file(&directory, "secret", within, 0o600);
        for form in forms {
            let found = parse(&text(form), &context()).unwrap_err().problems;
            let expected = format!(
                "twilio.auth_token is kept in {}, whose line {line} holds a line break or a character that cannot be seen, so it cannot be sent",
                path.display()
            );
            assert_eq!(found[0].message, expected, "{within:?}");
            assert_eq!(found.len(), 2, "{found:?}");
        }
    }
    for nothing in ["", "\n", "\u{feff}\r\n", "  "] {
        write_file(&directory, "secret", nothing, 0o600);
        let found = parse(&text(forms[0]), &context()).unwrap_err().problems;
        assert_eq!(found[0].message, "twilio.auth_token is an empty secret");
    }
}

#[test]
fn plain_secrets_are_warned_about_and_refused_in_a_file_that_everybody_can_read() {
    let text = with(
        "{ env = \"TWILIO\" }",
        "[\"marker-plain\", { env = \"TWILIO\" }]",
    );
    let judged = |mode: u32| match parse(
        &text,
        &context().with_permissions(Permissions::of_mode(mode)),
    ) {
        Ok(Loaded {
            config, warnings, ..
        }) => {
            assert_eq!(config.twilio.auth_tokens[0].expose(), "marker-plain");
            assert_eq!(config.twilio.auth_tokens.len(), 2);
            warnings
        }
        Err(rejected) => rejected.problems,
    };
    for (mode, severity, message) in [
        (
            0o600,
            ProblemSeverity::Warning,
            "is a plain secret in the configuration file",
        ),
        (
            0o640,
            ProblemSeverity::Warning,
            "is a plain secret in the configuration file, which its group can read (mode 0640)",
        ),
        (
            0o644,
            ProblemSeverity::Error,
            "is a plain secret in a file that everybody on this machine can read (mode 0644)",
        ),
    ] {
        let found = judged(mode);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].severity, found[0].message.as_str()),
            (severity, format!("twilio.auth_token[0] {message}").as_str())
        );
        assert_eq!((found[0].line, found[0].column), (Some(10), Some(15)));
    }
}

#[cfg(unix)]
fn write_file(directory: &TempDir, name: &str, text: &str, mode: u32) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = directory.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[cfg(unix)]
#[test]
fn secret_files_are_read_beside_the_file_and_judged_by_their_mode() {
    let directory = TempDir::new().unwrap();
    let text = with("{ env = \"TWILIO\" }", "{ file = \"twilio\" }")
        .replace("{ env = \"BRAZE\" }", "{ credential = \"braze\" }");
    let context = Context::in_directory(directory.path())
        .with_variables([("CREDENTIALS_DIRECTORY", directory.path().to_str().unwrap())]);
    write_file(&directory, "braze", "key\r\n", 0o440);
    for (mode, severity) in [
        (0o600, None),
        (0o640, Some(ProblemSeverity::Warning)),
        (0o604, Some(ProblemSeverity::Error)),
    ] {
        let path = write_file(&directory, "twilio", "token\n", mode);
        let found = match parse(&text, &context) {
            Ok(Loaded {
                config, warnings, ..
            }) => {
                assert_eq!(config.twilio.auth_tokens[0].expose(), "token");
                assert_eq!(config.braze.api_key.expose(), "key");
                warnings
            }
            Err(rejected) => rejected.problems,
        };
        assert_eq!(found.first().map(|p| p.severity), severity, "{found:?}");
        let hint = found.first().and_then(|p| p.hint.clone());
        assert_eq!(
            hint,
            severity.map(|_| format!("chmod 0600 {}", path.display()))
        );
    }
}

fn read_at(moment: &str, text: &str, context: Context) -> Result<Loaded, super::Rejected> {
    parse(text, &context.at(moment.parse().unwrap()))
}

/// What is said of opening hours on 1 December 2026.
fn said_of_hours(lines: &str) -> Vec<String> {
    let text = with_end(&format!("[routing.hours.office]\n{lines}"));
    let problems = match read_at("2026-12-01T12:00:00Z", &text, context()) {
        Ok(loaded) => loaded.warnings,
        Err(rejected) => rejected.problems,
    };
    problems.iter().map(Problem::to_string).collect()
}

#[test]
fn opening_hours_are_read_by_their_names() {
    let hours = "[alerts]\ntime_zone = \"Europe/Berlin\"\nwebhook = { url = \"https://a.example\", secret = { env = \"TWILIO\" } }\n\
                 [routing.hours.office]\nopen = [\"mon-fri 08:00-18:00\", \"sat 9:00-13:00\"]\nclosed = [\"2026-12-24..2026-12-26\"]\n\
                 [routing.hours.night]\ntime_zone = \"UTC\"\nopen = \"fri-mon 22:00-06:00\"\nspecial = \"2026-12-23 08:00-14:00\"";
    let Loaded {
        config, warnings, ..
    } = read_at("2026-12-01T12:00:00Z", &with_end(hours), context()).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.routing.time_zone.iana_name(), Some("Europe/Berlin"));
    let recorded = serde_json::to_value(&config.ruleset.hours).unwrap();
    assert_eq!(
        recorded,
        serde_json::json!({
            "night": {"time_zone": "UTC", "open": ["fri-mon 22:00-06:00"], "special": ["2026-12-23 08:00-14:00"]},
            "office": {
                "time_zone": "Europe/Berlin",
                "open": ["mon-fri 08:00-18:00", "sat 09:00-13:00"],
                "closed": ["2026-12-24..2026-12-26"]
            }
        })
    );
    let Loaded { config, .. } = loaded(MINIMAL);
    assert_eq!(config.routing.time_zone.iana_name(), Some("UTC"));
    let bare = serde_json::to_value(&config.ruleset).unwrap();
    assert_eq!(
        bare.get("hours"),
        None,
        "rule sets without hours are what they were"
    );
    let of_routing = with_in("routing", "time_zone = \"Asia/Tokyo\"");
    let of_routing = format!("{of_routing}[routing.hours.a]\nopen = \"mon 08:00-09:00\"\n");
    let Loaded { config, .. } = loaded(&of_routing);
    assert_eq!(
        config.ruleset.hours["a"].time_zone.iana_name(),
        Some("Asia/Tokyo")
    );
}

#[test]
fn what_is_wrong_with_opening_hours_is_said_where_it_stands() {
    let open = "open = [\"mon-fri 08:00-18:00\"]\n";
    for (lines, expected) in [
        (
            "open = [\"mon-fri 08:00-18:00\", \"mon-fir 08:00-18:00\"]".to_owned(),
            "24:32: error: routing.hours.office.open[1] names \"fir\" as a day; the days are mon, tue, wed, thu, fri, sat, sun and daily",
        ),
        (
            "open = \"mon-fri 8-18\"".to_owned(),
            "24:8: error: routing.hours.office.open holds \"8-18\", which is no span of time; write \"08:00-18:00\", from 00:00 to 24:00",
        ),
        (
            format!("{open}closed = [\"2026-12-26..2026-12-24\"]"),
            "25:11: error: routing.hours.office.closed[0] ends before it begins; write \"2027-01-01\" or \"2026-12-24..2026-12-26\"",
        ),
        (
            format!("{open}closed = [2026-12-26]"),
            "25:11: error: routing.hours.office.closed[0] must be a string, not a date",
        ),
        (
            format!("{open}special = [\"2026-12-23\"]"),
            "25:12: error: routing.hours.office.special[0] names no times of day; write \"2026-12-23 08:00-14:00\"",
        ),
        (
            format!("{open}time_zone = \"Europe/Bonn\""),
            "25:13: error: routing.hours.office.time_zone is no time zone of the IANA database; write \"UTC\", \"Europe/Berlin\" or another name of it",
        ),
        (
            format!("{open}opne = []"),
            "25:1: error: routing.hours.office.opne is not a known key; did you mean open?",
        ),
        (
            format!("{open}[routing.hours.\"a b\"]\n{open}"),
            "25:16: error: routing.hours.a b is not a name for opening hours; use 1 to 64 letters, digits, _ and -",
        ),
        (
            String::new(),
            "23:1: warning: routing.hours.office does not open in the year to come; write open = [\"mon-fri 08:00-18:00\"]",
        ),
        (
            "special = [\"2026-11-30 08:00-14:00\"]".to_owned(),
            "23:1: warning: routing.hours.office does not open in the year to come; write open = [\"mon-fri 08:00-18:00\"]",
        ),
        (
            "open = [\"mon-thu 00:00-24:00\", \"fri-sun 00:00-24:00\"]".to_owned(),
            "23:1: warning: routing.hours.office is always open; name the hours at which it is closed, or leave it out of the rules",
        ),
    ] {
        assert_eq!(said_of_hours(&lines), [expected], "{lines}");
    }
    let always = "open = \"daily 00:00-24:00\"\nclosed = \"2027-01-01\"";
    assert_eq!(said_of_hours(always), Vec::<String>::new());
}

#[test]
fn a_calendar_beside_the_file_closes_its_days() {
    const NOW: &str = "2026-12-01T12:00:00Z";
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("holidays.ics");
    let text = with_end(
        "[routing.hours.office]\nopen = \"mon-fri 08:00-18:00\"\ncalendar = \"holidays.ics\"",
    );
    let read = |moment: &str| {
        let context = Context::in_directory(directory.path())
            .with_variables([("TWILIO", "a"), ("BRAZE", "b")]);
        read_at(moment, &text, context)
    };
    let said = |moment: &str| -> Vec<String> {
        let problems = match read(moment) {
            Ok(loaded) => loaded.warnings,
            Err(rejected) => rejected.problems,
        };
        let shown = problems.iter().map(Problem::to_string);
        shown
            .map(|line| line.replace(path.to_str().unwrap(), "FILE"))
            .collect()
    };
    let missing = "25:12: error: routing.hours.office.calendar cannot be read from FILE: No such file or directory (os error 2)";
    assert_eq!(said(NOW), [missing]);
    fs::write(&path, "holidays").unwrap();
    let none = "25:12: error: routing.hours.office.calendar is no iCalendar file: it does not begin with BEGIN:VCALENDAR";
    assert_eq!(said(NOW), [none]);
    fs::write(&path, vec![b' '; 1024 * 1024 + 1]).unwrap();
    let large = "25:12: error: routing.hours.office.calendar cannot be read from FILE: it is larger than 1 MiB";
    assert_eq!(said(NOW), [large]);
    let event = "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nDTSTART;VALUE=DATE:20261225\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";
    fs::write(&path, event).unwrap();
    let Loaded {
        config, warnings, ..
    } = read(NOW).unwrap();
    assert_eq!(warnings, []);
    let office = &config.ruleset.hours["office"];
    assert_eq!(office.holidays, [jiff::civil::date(2026, 12, 25)].into());
    let past = "25:12: warning: routing.hours.office.calendar has no whole-day event to come, so it closes no day; put the holidays to come into the file, or leave calendar out";
    assert_eq!(said("2026-12-25T12:00:00Z"), Vec::<String>::new());
    assert_eq!(said("2026-12-26T12:00:00Z"), [past]);
    fs::write(
        &path,
        event.replace("END:VEVENT", "RRULE:FREQ=YEARLY;BYDAY=1MO\r\nEND:VEVENT"),
    )
    .unwrap();
    let unread = "25:12: warning: routing.hours.office.calendar has the rule FREQ=YEARLY;BYDAY=1MO in line 4, which is not supported: of that event only 2026-12-25 is a closed day";
    assert_eq!(said(NOW), [unread]);
}

/// Two dialers, hours, and rules for a test or two.
fn with_rules(lines: &str) -> String {
    let rules = "tiers = [{ name = \"hot\", min_score = 80 }]\nattributes = [\"plan\"]";
    let more = "[dialers.floor]\nkind = \"http\"\nconnect = \"sip:f@pbx.example\"\nurl = \"https://floor.example/calls\"\n\
                [routing.hours.office]\nopen = \"mon-fri 08:00-18:00\"\n\
                [[routing.rules]]\nname = \"night\"\nwhen = { not_hours = \"office\" }\nnumber = \"+493055555\"\n\
                [[routing.rules]]\nname = \"hot\"\nwhen = { tier = \"hot\" }\ndialers = [\"floor\", \"web\"]\n\
                [[routing.rules]]\nname = \"spam\"\nwhen = { caller = \"+882*\" }\nreject = \"busy\"\n";
    format!("{}{more}{lines}\n", with_in("routing", rules))
}

/// What is said of one test in the file.
fn said_of_test(given: &str, expect: &str) -> Vec<String> {
    let test =
        format!("[[routing.tests]]\nname = \"t\"\ngiven = {{ {given} }}\nexpect = {{ {expect} }}");
    let problems = problems(&with_rules(&test));
    problems.iter().map(Problem::to_string).collect()
}

#[test]
fn the_file_says_what_becomes_of_calls_and_is_refused_where_it_does_not() {
    let said = said_of_test;
    let night = "at = \"2026-12-01T22:00:00+01:00\"";
    for (given, expect) in [
        (
            "score = 85",
            "rule = \"hot\", first = \"floor\", dialers = [\"floor\", \"web\"]",
        ),
        (
            night,
            "rule = \"night\", number = \"+493055555\", closed = false",
        ),
        (
            "caller = \"+88212345678\"",
            "rule = \"spam\", reject = true",
        ),
        (
            "score = 85, dialers = { floor = \"down\" }",
            "dialers = \"web\"",
        ),
        (
            "score = 85, dialers = { floor = \"full\", web = \"closed\" }",
            "dialers = []",
        ),
        (
            "score = 85, dialers = { floor = \"closed\", web = \"closed\" }",
            "closed = true",
        ),
        (
            "caller_kind = \"withheld\"",
            "first = \"web\", reject = false",
        ),
        (
            "lookup = \"unavailable\", draw = 99, called_before = \"3d\"",
            "first = \"web\"",
        ),
        (
            "attribute = { plan = true }, called = \"+4930111\"",
            "dialers = [\"web\", \"floor\"]",
        ),
    ] {
        assert_eq!(said(given, expect), Vec::<String>::new(), "{given}");
    }
    let hint =
        "correct the rules or the test; switchboard explain shows how such a call is decided";
    for (given, expect, failure) in [
        (
            "score = 85",
            "rule = \"night\"",
            "rule \"hot\", dialers floor, web, and not to rule \"night\"",
        ),
        (
            night,
            "dialers = \"web\"",
            "rule \"night\", number +493055555, and not to dialers web",
        ),
        (
            "",
            "first = \"floor\"",
            "no rule, dialers web, floor, and not to floor first",
        ),
        (
            "",
            "reject = true",
            "no rule, dialers web, floor, and not to a refusal",
        ),
        (
            "caller = \"+88212345678\"",
            "reject = false",
            "rule \"spam\", a refusal, and not to anything but a refusal",
        ),
    ] {
        let expected = format!(
            "43:1: error: routing.tests[0] (\"t\") fails: the call comes to {failure}; {hint}"
        );
        assert_eq!(said(given, expect), [expected], "{given}");
    }
}

#[test]
fn what_a_test_of_the_file_cannot_mean_is_refused() {
    let said = said_of_test;
    for (given, expect, problem) in [
        (
            "score = 85",
            "",
            "routing.tests[0].expect expects nothing; write rule, dialers, first, number, reject or closed",
        ),
        (
            "at = \"22:00\"",
            "reject = false",
            "routing.tests[0].given.at is no moment with its offset from UTC; write \"2026-12-01T22:00:00+01:00\"",
        ),
        (
            "lookup = \"unknown\", score = 5",
            "reject = false",
            "routing.tests[0].given.lookup leaves nothing of the caller known; leave score and attribute out, or write known",
        ),
        (
            "caller = \"+4930123456\", caller_kind = \"sip\"",
            "reject = false",
            "routing.tests[0].given.caller_kind is sip, and caller is number; leave one of the two out",
        ),
        (
            "dialers = { flor = \"down\" }",
            "reject = false",
            "routing.tests[0].given.dialers.flor is flor, which is not a dialer; did you mean floor?",
        ),
        (
            "dialers = { floor = \"dwon\" }",
            "reject = false",
            "routing.tests[0].given.dialers.floor must be one of down, full, closed; did you mean down?",
        ),
        (
            "",
            "first = \"wbe\"",
            "routing.tests[0].expect.first is wbe, which is not a dialer; did you mean web?",
        ),
        (
            "list = \"vip\"",
            "reject = false",
            "routing.tests[0].given.list is vip, which is not a list of [routing]; add it to routing.lists",
        ),
        (
            "attribute = { paln = \"gold\" }",
            "reject = false",
            "routing.tests[0].given.attribute is paln, which is not an attribute of [routing]; did you mean plan?",
        ),
    ] {
        let found = said(given, expect);
        assert!(
            found.len() == 1 && found[0].ends_with(&format!("error: {problem}")),
            "{found:?}"
        );
    }
}

#[test]
fn rules_and_dialers_that_no_call_comes_to_are_named() {
    let said = |lines: &str| -> Vec<String> {
        let problems = problems(&with_rules(lines));
        problems
            .iter()
            .map(|problem| problem.message.clone())
            .collect()
    };
    let rule = |name: &str, when: &str, dialer: &str| {
        format!(
            "[[routing.rules]]\nname = \"{name}\"\nwhen = {{ {when} }}\ndialers = \"{dialer}\"\n"
        )
    };
    assert_eq!(said(""), Vec::<String>::new());
    assert_eq!(
        said(&rule(
            "odd",
            "tier = \"hot\", score = { below = 10 }",
            "web"
        )),
        ["routing.rules[3] (\"odd\") never matches: its conditions contradict each other"]
    );
    assert_eq!(
        said(&rule(
            "odd",
            "score = { from = 90 }, hours = \"office\"",
            "web"
        )),
        ["routing.rules[3] (\"odd\") never matches: \"hot\" above it takes all of its calls"]
    );
    assert_eq!(
        said(&rule("odd", "score = { from = 90 }", "web")),
        ["routing.rules[3] (\"odd\") never matches: \"hot\" above it takes all of its calls"]
    );
    let both = rule("cool", "score = { below = 85 }", "web")
        + &rule("odd", "lookup = \"known\", score = { from = 0 }", "web");
    assert_eq!(
        said(&both),
        [
            "routing.rules[4] (\"odd\") never matches: \"hot\", \"cool\" above it take all of its calls"
        ]
    );
    let third = "[dialers.third]\nkind = \"http\"\nconnect = \"sip:t@pbx.example\"\nurl = \"https://third.example/calls\"\n";
    let all = "[[routing.rules]]\nname = \"rest\"\ndialers = \"web\"\n";
    assert_eq!(
        said(&format!("{third}{all}")),
        [
            "dialers.third gets no call: no rule that is reached names it, and the default is never reached"
        ]
    );
    let limits = "[routing.limits]\nweb = { hours = \"office\" }\nfloor = { hours = \"office\" }";
    assert_eq!(
        said(limits),
        [
            "routing.limits give hours to all dialers: outside them callers hear goodbye_message alone"
        ]
    );
}

#[test]
fn debug_output_of_the_configuration_holds_no_secret() {
    let text = with_in(
        "dialers.web",
        "headers = { Authorization = \"marker-header\", X-Key = { env = \"BRAZE\" }, Accept = \"text/plain\" }",
    );
    let Loaded {
        config, warnings, ..
    } = loaded(&text);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    for shown in [
        format!("{config:?}"),
        format!("{config:#?}"),
        format!("{warnings:?}"),
    ] {
        assert!(!shown.contains("marker"), "{shown}");
    }
    assert!(format!("{config:?}").contains("Secret(…)"));
    let entries = config.dialers[0].api.entries().into_iter();
    let headers: Vec<_> = entries
        .filter_map(|(key, value)| match (key.strip_prefix("headers."), value) {
            (Some(name), SettingValue::Secret(value)) => Some((name.to_owned(), value)),
            _ => None,
        })
        .collect();
    let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["Authorization", "X-Key", "Accept"]);
    assert_eq!(headers[0].1.expose(), "marker-header");
    assert_eq!(headers[2].1.expose(), "text/plain");
}

#[cfg(unix)]
#[test]
fn a_file_is_loaded_with_its_own_permissions_and_directory() {
    let directory = TempDir::new().unwrap();
    let text =
        with("{ env = \"TWILIO\" }", "\"plain\"").replace("{ env = \"BRAZE\" }", "\"plain\"");
    let path = write_file(&directory, "config.toml", &text, 0o600);
    let Loaded {
        config, warnings, ..
    } = load(&path).unwrap();
    assert_eq!(warnings.len(), 2);
    assert_eq!(config.storage.path, directory.path().join("switchboard.db"));
    write_file(&directory, "config.toml", &text, 0o644);
    assert_eq!(
        load(&path)
            .unwrap_err()
            .problems
            .iter()
            .filter(|p| p.is_error())
            .count(),
        2
    );
    let missing = load(&directory.path().join("none.toml")).unwrap_err();
    assert!(missing.to_string().contains("No such file"), "{missing}");
    assert_eq!(find(Some(&path)), path);
}

#[cfg(unix)]
#[test]
fn a_report_shows_the_line_but_never_what_may_be_a_secret() {
    let directory = TempDir::new().unwrap();
    let text = with_in("routing", "budget = \"11s\"")
        .replace("{ env = \"TWILIO\" }", "\"marker\"\ntokn = \"marker\"");
    let text = text.replace("{ env = \"BRAZE\" }", "[\"marker\"]");
    let path = write_file(&directory, "config.toml", &text, 0o600);
    let report = check::report(&path);
    let shown = report
        .to_text()
        .replace(&path.display().to_string(), "c.toml");
    assert!(!shown.contains("marker"), "{shown}");
    assert!(
        shown.contains("c.toml:18:10: error: routing.budget must lie between 500ms and 10s, not 11s\n   18 | budget = \"11s\"\n      |          ^\n"),
        "{shown}"
    );
    assert!(
        shown.contains("   11 | tokn = \"······\"\n      | ^\n"),
        "{shown}"
    );
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["ok"], false);
    let budget = json["findings"].as_array().unwrap().last().unwrap();
    assert_eq!(
        *budget,
        serde_json::json!({
            "check": "routing.budget", "severity": "error", "message": "routing.budget must lie between 500ms and 10s, not 11s",
            "hint": null, "line": 18, "column": 10
        })
    );
    let broken = write_file(
        &directory,
        "broken.toml",
        "[twilio]\nauth_token = \"marker\nx = marker\n",
        0o600,
    );
    let shown = check::report(&broken).to_text();
    assert!(!shown.contains("marker"), "{shown}");
    // What is no secret is shown, also where the text is no TOML: it is the word that is wrong.
    for wrong in ["docs = ture", "budget = 2s"] {
        let text = format!("[server]\n{wrong}\n");
        let file = write_file(&directory, "wrong.toml", &text, 0o600);
        let shown = check::report(&file).to_text();
        assert!(shown.contains(&format!("    2 | {wrong}\n")), "{shown}");
    }
    for hidden in [
        "auth_token = marker",
        "auth_tokem = marker",
        "api_key = marker",
        "marker",
    ] {
        let text = format!("[twilio]\n{hidden}\n");
        let file = write_file(&directory, "hidden.toml", &text, 0o600);
        let shown = check::report(&file).to_text();
        assert!(!shown.contains("marker"), "{shown}");
    }
}

#[test]
fn an_address_with_the_path_of_a_webhook_is_refused_and_one_with_another_path_is_not() {
    for (url, is_well) in [
        ("https://calls.example.org/webhooks/twilio", false),
        ("https://calls.example.org/webhooks/twilio/", false),
        ("https://calls.example.org/Webhooks/Twilio/dial", false),
        ("https://calls.example.org/switchboard", true),
    ] {
        let text = with("https://Calls.example.com/", url);
        let problems = match parse(&text, &context()) {
            Ok(loaded) => loaded.warnings,
            Err(rejected) => rejected.problems,
        };
        let refused = problems.iter().find(|problem| problem.is_error());
        assert_eq!(refused.is_none(), is_well, "{url}: {problems:?}");
        if let Some(refused) = refused {
            assert_eq!(refused.key, "server.public_url");
            assert!(refused.hint.is_some() && refused.line.is_some());
        }
    }
}

#[test]
fn further_public_urls_and_the_name_of_the_machine_are_read() {
    let lines =
        "node = \"b-2\"\nalso_public = [\"https://b.example.com/sb/\", \"https://c.example.com\"]";
    let server = loaded(&with_in("server", lines)).config.server;
    assert_eq!(server.node.as_deref(), Some("b-2"));
    let urls: Vec<&str> = server
        .also_public
        .iter()
        .map(crate::config::PublicUrl::as_str)
        .collect();
    assert_eq!(urls, ["https://b.example.com/sb", "https://c.example.com"]);
    let nine: Vec<String> = (1..=9)
        .map(|n| format!("\"https://c{n}.example.com\""))
        .collect();
    let nine = format!("also_public = [{}]", nine.join(", "));
    for (lines, message) in [
        ("node = \"B\"", "must be 1 to 16 of a to z, 0 to 9 and -"),
        (
            "node = \"a23456789-1234567\"",
            "must be 1 to 16 of a to z, 0 to 9 and -",
        ),
        (
            "also_public = [\"http://b.example.com\"]",
            "must start with https://",
        ),
        (
            "also_public = [\"https://b.example.com/webhooks/twilio\"]",
            "holds the path of a webhook",
        ),
        (
            "also_public = [\"https://Calls.example.com\"]",
            "or one twice, or public_url again",
        ),
        (
            "also_public = [\"https://b.example.com/\", \"https://b.example.com\"]",
            "or one twice",
        ),
        (&nine, "names more than 8 addresses"),
    ] {
        let found = problems(&with_in("server", lines));
        assert!(
            found
                .iter()
                .any(|one| one.is_error() && one.message.contains(message)),
            "{lines}: {found:?}"
        );
    }
}

#[test]
fn what_init_has_left_is_told_one_by_one() {
    let text = include_str!("../../config.example.toml");
    let context = Context::in_directory("/etc/switchboard").without_secrets();
    let loaded = parse(text, &context.telling_placeholders()).unwrap();
    let told: Vec<&str> = loaded
        .warnings
        .iter()
        .map(|warning| warning.key.as_str())
        .collect();
    assert_eq!(
        told,
        [
            "server.public_url",
            "twilio.account_sid",
            "dialers.dialfire.connect",
            "dialers.dialfire.campaign",
            "dialers.zendesk.connect",
            "dialers.zendesk.subdomain",
            "dialers.zendesk.email",
            "alerts.email.smtp",
        ]
    );
    for warning in &loaded.warnings {
        assert!(
            warning.line.is_some() && warning.hint.is_some(),
            "{warning}"
        );
    }
}

#[test]
fn a_phone_that_may_ring_for_callers_without_a_number_wants_one_of_ours_to_show() {
    const MISSING: &str = "is missing, so callers from SIP and client addresses cannot be put through to phone numbers";
    let warned = |text: &str| {
        let problems = problems(text);
        assert!(
            problems.iter().all(|problem| !problem.is_error()),
            "{problems:?}"
        );
        problems
            .iter()
            .any(|p| p.key == "twilio.number" && p.message.contains(MISSING))
    };
    let phone = with("sip:q@pbx.example", "+4930123456");
    let ours = |line: &str| phone.replace("[twilio]\n", &format!("[twilio]\n{line}\n"));
    assert!(warned(&phone));
    assert!(warned(&with_in(
        "routing",
        "last_resort_number = \"+4930123456\""
    )));
    assert!(!warned(MINIMAL), "a SIP line is shown what the caller has");
    assert!(!warned(&ours("number = \"+4930654321\"")));
    assert!(!warned(&ours("caller_id = \"+4930654321\"")));
    let Loaded { config, .. } = loaded(&ours("number = \"+4930654321\""));
    assert_eq!(config.twilio.number.unwrap().as_str(), "+4930654321");
}

/// The minimal file with `[routing]` in a file of this text, and what is said of both.
fn with_rules_beside(routing: &str, beside: &str, text: &str) -> (TempDir, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("routing.toml"), text).unwrap();
    let own = "[routing]\ndefault_dialer = \"web\"\n";
    let main = with(
        own,
        &format!("[routing]\nfile = \"routing.toml\"\n{routing}\n"),
    ) + beside;
    let context = Context::in_directory(directory.path())
        .with_variables([("TWILIO", "marker-twilio"), ("BRAZE", "marker-braze")]);
    let problems = match parse(&main, &context) {
        Ok(loaded) => loaded.warnings,
        Err(rejected) => rejected.problems,
    };
    let name = format!("{}/", directory.path().display());
    let rendered = problems
        .iter()
        .map(|problem| problem.render(Path::new("c.toml")).replace(&name, ""));
    let rendered = rendered.collect();
    (directory, rendered)
}

#[test]
fn routing_is_read_from_a_file_of_its_own_and_its_problems_name_that_file() {
    let sound =
        "[routing]\ndefault_dialer = \"web\"\n[[routing.rules]]\nname = \"a\"\ndialers = \"web\"\n";
    let said = |routing: &str, text: &str| with_rules_beside(routing, "", text).1;
    assert_eq!(said("", sound), [""; 0]);
    assert_eq!(
        said("budget = \"1s\"", &sound.replace("dialers = \"web\"", "dialers = \"wbe\"")),
        [
            "c.toml:18:1: error: routing.budget cannot stand beside routing.file; that file holds all of [routing]: move it there",
            "routing.toml:5:11: error: routing.rules[0].dialers is wbe, which is not a dialer; did you mean web?",
        ]
        .map(|line| line.replace("c.toml:18:1", "c.toml:18:10"))
    );
    let said_of_other = said("", &format!("{sound}[server]\nlisten = 1\n[routing.x]\n"));
    assert_eq!(
        said_of_other,
        [
            "routing.toml:6:2: error: server is not a known key",
            "routing.toml:8:10: error: routing.x is not a known key",
        ]
    );
    let broken = said("", "[routing\n");
    assert_eq!(broken.len(), 1, "{broken:?}");
    assert!(
        broken[0].starts_with("routing.toml:1:9: error: this is not TOML"),
        "{broken:?}"
    );
    let nested = said(
        "",
        &sound.replace("[routing]\n", "[routing]\nfile = \"x\"\n"),
    );
    assert_eq!(nested.len(), 1, "{nested:?}");
    assert!(
        nested[0].contains("routing.file is a key of the main file"),
        "{nested:?}"
    );
    let gone = problems(&with(
        "default_dialer = \"web\"",
        "file = \"/nowhere/routing.toml\"",
    ));
    assert_eq!(gone.len(), 1, "{gone:?}");
    assert!(
        gone[0]
            .message
            .starts_with("routing.file cannot be read from /nowhere/routing.toml")
    );
}

#[test]
fn rules_of_another_file_dial_only_what_begins_as_the_main_file_says() {
    let rule = |number: &str| {
        format!("[routing]\ndefault_dialer = \"web\"\nlast_resort_number = \"{number}\"\n")
    };
    let said = |beside: &str, number: &str| with_rules_beside("", beside, &rule(number)).1;
    let refused = said("", "+493012345");
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused[1].contains("routing.last_resort_number is a number, and rules may dial none"));
    let desk =
        "[dialers.desk]\nkind = \"http\"\nconnect = \"+493012345\"\nurl = \"https://d.example/\"\n";
    let warned = |said: Vec<String>| said.iter().all(|line| line.contains("warning"));
    assert!(warned(said(desk, "+4940123456")));
    let abroad = said(desk, "+43123456789");
    assert!(
        abroad
            .iter()
            .any(|line| line
                .contains("is none that rules may dial: those begin with +49; add \"+43\"")),
        "{abroad:?}"
    );
    // What stands in the main file itself is what it says.
    assert!(warned(rendered(&with_in(
        "routing",
        "last_resort_number = \"+43123456789\""
    ))));
    let written = with_in("twilio", "may_dial = [\"+49\"]");
    let written = written.replace(
        "[routing]\n",
        "[routing]\nlast_resort_number = \"+43123456789\"\n",
    );
    assert!(!warned(rendered(&written)));
}

#[test]
fn a_draft_is_read_beside_the_rules_and_a_mistake_in_it_is_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let context = Context::in_directory(directory.path())
        .with_variables([("TWILIO", "marker-twilio"), ("BRAZE", "marker-braze")]);
    let main = with_in("routing", "draft = \"draft.toml\"");
    let read = |draft: &str| {
        fs::write(directory.path().join("draft.toml"), draft).unwrap();
        parse(&main, &context).unwrap()
    };
    let sound =
        "[routing]\ndefault_dialer = \"web\"\n[[routing.rules]]\nname = \"a\"\ndialers = \"web\"\n";
    let loaded = read(sound);
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.draft.unwrap().rules.len(), 1);
    assert_eq!(loaded.config.ruleset.rules.len(), 0);
    let loaded = read("[routing]\nbudgt = \"1s\"\n");
    assert_eq!(loaded.config.draft, None);
    let severities: Vec<_> = loaded
        .warnings
        .iter()
        .map(|problem| problem.severity)
        .collect();
    assert_eq!(severities, [ProblemSeverity::Warning; 2]);
    assert_eq!(
        loaded.warnings[1].file,
        Some(directory.path().join("draft.toml"))
    );
    fs::remove_file(directory.path().join("draft.toml")).unwrap();
    let loaded = parse(&main, &context).unwrap();
    assert!(
        loaded.warnings[0]
            .message
            .starts_with("routing.draft cannot be read from")
    );
}

#[test]
fn rules_without_a_test_and_lists_without_a_number_are_told_by_lint_alone() {
    let rule = |name: &str, list: &str| {
        format!(
            "[[routing.rules]]\nname = \"{name}\"\nwhen = {{ list = \"{list}\" }}\nreject = \"busy\"\n"
        )
    };
    let text = with_end(&format!(
        "[routing.lists.blocked]\n[routing.lists.vip]\nnumbers = [\"+44207*\"]\n{}{}\
         [[routing.tests]]\nname = \"a spammer\"\ngiven = {{ list = \"blocked\" }}\nexpect = {{ reject = true }}\n",
        rule("spam", "blocked"),
        rule("friends", "vip"),
    ));
    let Loaded {
        config,
        warnings,
        information,
    } = loaded(&text);
    assert_eq!(warnings, []);
    let told: Vec<&str> = information.iter().map(|found| &*found.message).collect();
    let expected = [
        "routing.lists.blocked names nobody: only entries that are added while it runs are on it",
        "routing.rules[1] (\"friends\") has no test",
    ];
    assert_eq!(told, expected);
    assert_eq!(config.lint, expected);
}

#[test]
fn no_rule_names_a_person() {
    let rule = |when: &str| {
        rendered(&with_end(&format!(
            "[[routing.rules]]\nname = \"a\"\nwhen = {{ {when} }}\ndialers = \"web\""
        )))
    };
    for when in ["caller = \"sip:max@*\"", "caller = \"+4915112345*\""] {
        let said = rule(when);
        let is_it = |line: &String| line.contains("must be beginnings of numbers");
        assert!(said.iter().any(is_it), "{said:?}");
    }
    let attributes = rule("attribute = { mobile = \"+4915112345678\" }");
    assert!(
        attributes
            .iter()
            .any(|line| line.contains("is a whole phone number; put numbers of people on a list")),
        "{attributes:?}"
    );
}
