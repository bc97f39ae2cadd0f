//! What a decision sounds like: from what was decided to the answer that Twilio gets. Pure; one function per answer.

use std::time::Duration;

use super::connect::Connect;
use super::verb::{Dial, Noun, Pause, Redirect, Say, SipUri, Verb, VoiceResponse};
use crate::phone::{Caller, E164};
use crate::routing::Rejection;

/// The silence between two questions of a caller on hold, where nothing says that it should be shorter.
pub const HOLD_PAUSE: Duration = Duration::from_secs(5);

/// Which number the dialer sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallerIdPolicy {
    /// The caller's, where it is one.
    Caller {
        /// The number of ours that is shown where the caller has none that Twilio takes.
        ours: Option<E164>,
    },
    /// Always this one of ours.
    Number(E164),
}

/// A line to connect the caller to.
#[derive(Clone, Copy, Debug)]
pub struct ConnectTo<'a> {
    pub connect: &'a Connect,
    pub caller: &'a Caller,
    /// What was called, as received.
    pub called: Option<&'a str>,
    /// Which number the dialer sees.
    pub caller_id: &'a CallerIdPolicy,
    pub ring_timeout: Duration,
    /// Where the end of the dial is reported.
    pub action_url: &'a str,
    /// Where the leg reports its progress.
    pub status_url: &'a str,
    /// Headers for a SIP line: `X-…` names and plain values.
    pub sip_headers: &'a [(&'a str, String)],
}

/// All that a safe answer may use: configuration, and as much of the call as could be read.
#[derive(Clone, Copy, Debug)]
pub struct Safe<'a> {
    pub last_resort: Option<&'a E164>,
    /// The line of the default dialer.
    pub default_connect: Option<&'a Connect>,
    /// Who calls, if that could be read.
    pub caller: Option<&'a Caller>,
    pub called: Option<&'a str>,
    /// Which number the line shows.
    pub caller_id: &'a CallerIdPolicy,
    pub ring_timeout: Duration,
    /// What is said where there is no line at all.
    pub goodbye: &'a str,
    pub language: &'a str,
}

/// Connects the caller to a line: a dialer's, or the last resort.
pub fn connect(to: &ConnectTo<'_>) -> VoiceResponse {
    let shown = shown_number(to.caller_id, Some(to.caller), to.called, to.connect);
    let dial = Dial::new(noun(to.connect, to.sip_headers), to.ring_timeout)
        .caller_id(shown)
        .action(to.action_url)
        .status_callback(to.status_url);
    VoiceResponse::of([Verb::Dial(dial)])
}

/// Says goodbye, and ends the call.
pub fn goodbye(message: &str, language: &str) -> VoiceResponse {
    let say = Say::new(message, language).map(Verb::Say);
    VoiceResponse::of(say.into_iter().chain([Verb::Hangup]))
}

/// Refuses the call without answering it.
pub fn reject(reason: Rejection) -> VoiceResponse {
    VoiceResponse::of([Verb::Reject(reason)])
}

/// Keeps the caller in silence for `pause`, after a message if there is one, and then asks again.
pub fn hold(message: &str, language: &str, pause: Duration, redirect_url: &str) -> VoiceResponse {
    let say = Say::new(message, language).map(Verb::Say);
    VoiceResponse::of(say.into_iter().chain([
        Verb::Pause(Pause::new(pause)),
        Verb::Redirect(Redirect::new(redirect_url)),
    ]))
}

/// Does nothing. The answer to a status callback, and to a dial whose caller has hung up; it ends a call that has nothing else to do.
pub fn nothing() -> VoiceResponse {
    VoiceResponse::default()
}

/// Whether a phone can ring for this caller: without a number to show, Twilio fails the leg at once. Of a caller who is not known, it shows
/// the number that they have.
pub fn can_ring_phones(
    policy: &CallerIdPolicy,
    caller: Option<&Caller>,
    called: Option<&str>,
) -> bool {
    caller.is_none() || shown_on_phone(policy, caller, called).is_some()
}

/// What a caller gets when nothing can be decided: the last-resort number, else the default dialer's line, else the goodbye message. A phone
/// counts only where there is a number to show to it.
///
/// No action URL and no status callback: what has just failed is not asked again. The call ends with the dial.
pub fn safe(to: &Safe<'_>) -> VoiceResponse {
    let last_resort = to.last_resort.cloned().map(Connect::Number);
    let lines = last_resort.iter().chain(to.default_connect);
    let mut rung = lines.filter(|connect| match connect {
        Connect::Number(_) => can_ring_phones(to.caller_id, to.caller, to.called),
        Connect::Sip(_) => true,
    });
    let Some(connect) = rung.next() else {
        return goodbye(to.goodbye, to.language);
    };
    let shown = shown_number(to.caller_id, to.caller, to.called, connect);
    let dial = Dial::new(noun(connect, &[]), to.ring_timeout).caller_id(shown);
    VoiceResponse::of([Verb::Dial(dial)])
}

fn noun(connect: &Connect, headers: &[(&str, String)]) -> Noun {
    match connect {
        Connect::Number(number) => Noun::Number(number.clone()),
        Connect::Sip(address) => Noun::Sip(SipUri::new(address, headers)),
    }
}

/// The `callerId`, or `None` to leave it to Twilio, which then shows the caller's own identity.
///
/// Twilio takes the number of the caller, the one that was called, or another one of the account. Of a SIP call it takes neither of the
/// first two; a SIP line is then shown what the caller has, and a phone a number of ours.
fn shown_number(
    policy: &CallerIdPolicy,
    caller: Option<&Caller>,
    called: Option<&str>,
    connect: &Connect,
) -> Option<E164> {
    match (connect, policy, caller) {
        (Connect::Sip(_), CallerIdPolicy::Caller { .. }, Some(Caller::Sip { .. }) | None) => None,
        (Connect::Sip(_), CallerIdPolicy::Caller { .. }, Some(caller)) => {
            caller.number().cloned().or_else(|| number(called))
        }
        (Connect::Sip(_), CallerIdPolicy::Number(_), _) | (Connect::Number(_), _, _) => {
            shown_on_phone(policy, caller, called)
        }
    }
}

/// What a phone is shown. A `<Number>` without a `callerId` fails wherever the caller has no number of their own. What SIP and `client:`
/// callers have called need not be ours, so a number that is known to be ours goes before it.
fn shown_on_phone(
    policy: &CallerIdPolicy,
    caller: Option<&Caller>,
    called: Option<&str>,
) -> Option<E164> {
    let ours = match (policy, caller) {
        (CallerIdPolicy::Number(number), _)
        | (CallerIdPolicy::Caller { .. }, Some(Caller::Number(number))) => {
            return Some(number.clone());
        }
        (CallerIdPolicy::Caller { ours }, _) => ours.clone(),
    };
    match caller {
        Some(Caller::Sip { .. } | Caller::Client(_)) | None => ours.or_else(|| number(called)),
        Some(
            Caller::Number(_) | Caller::Withheld | Caller::National(_) | Caller::Unreadable(_),
        ) => number(called).or(ours),
    }
}

fn number(text: Option<&str>) -> Option<E164> {
    E164::parse(text?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::twiml::CallbackUrls;

    const CALLER: CallerIdPolicy = CallerIdPolicy::Caller { ours: None };

    fn number(text: &str) -> E164 {
        E164::parse(text).unwrap()
    }

    fn caller_or(ours: &str) -> CallerIdPolicy {
        CallerIdPolicy::Caller {
            ours: Some(number(ours)),
        }
    }

    fn connect_xml(
        connect: &str,
        from: &str,
        called: Option<&str>,
        policy: &CallerIdPolicy,
    ) -> String {
        let urls = CallbackUrls::new("https://calls.example.com");
        super::connect(&ConnectTo {
            connect: &Connect::parse(connect).unwrap(),
            caller: &Caller::classify(from),
            called,
            caller_id: policy,
            ring_timeout: Duration::from_secs(20),
            action_url: &urls.dial(1, Some("dialfire"), |_| None),
            status_url: &urls.status(1, Some("dialfire")),
            sip_headers: &[
                ("X-Call-Sid", "CA1".to_owned()),
                ("X-Tier", "hot & new".to_owned()),
            ],
        })
        .to_xml()
    }

    #[test]
    fn a_number_is_dialled_with_the_callers_number() {
        assert_eq!(
            connect_xml("+4930123456", "+14155550100", Some("+18005551212"), &CALLER),
            concat!(
                r#"<?xml version="1.0" encoding="UTF-8"?>"#,
                r#"<Response><Dial answerOnBridge="true" timeout="20" callerId="+14155550100""#,
                r#" action="https://calls.example.com/webhooks/twilio/dial?dialer=dialfire&amp;step=1#ct=2000&amp;rt=6000&amp;rc=1&amp;rp=ct,rt,5xx">"#,
                r#"<Number statusCallback="https://calls.example.com/webhooks/twilio/status?dialer=dialfire&amp;step=1#ct=2000&amp;rt=6000&amp;rc=1&amp;rp=ct,rt,5xx""#,
                r#" statusCallbackEvent="initiated ringing answered completed">+4930123456</Number>"#,
                r#"</Dial></Response>"#,
            )
        );
    }

    #[test]
    fn a_sip_line_gets_its_headers() {
        assert_eq!(
            connect_xml(
                "sip:queue@acme.sip.twilio.com;transport=tls",
                "sip:alice@pbx.example.com",
                Some("sip:18005551212@acme.sip.twilio.com"),
                &CALLER
            ),
            concat!(
                r#"<?xml version="1.0" encoding="UTF-8"?>"#,
                r#"<Response><Dial answerOnBridge="true" timeout="20""#,
                r#" action="https://calls.example.com/webhooks/twilio/dial?dialer=dialfire&amp;step=1#ct=2000&amp;rt=6000&amp;rc=1&amp;rp=ct,rt,5xx">"#,
                r#"<Sip statusCallback="https://calls.example.com/webhooks/twilio/status?dialer=dialfire&amp;step=1#ct=2000&amp;rt=6000&amp;rc=1&amp;rp=ct,rt,5xx""#,
                r#" statusCallbackEvent="initiated ringing answered completed">"#,
                r#"sip:queue@acme.sip.twilio.com;transport=tls?X-Call-Sid=CA1&amp;X-Tier=hot%20%26%20new</Sip>"#,
                r#"</Dial></Response>"#,
            )
        );
    }

    #[test]
    fn the_shown_number_is_one_that_twilio_takes() {
        const CALLED: Option<&str> = Some("+18005551212");
        const OURS: &str = "+4930999999";
        const SIP: Option<&str> = Some("sip:1@acme.sip.twilio.com");
        let (phone, line) = (
            Connect::parse("+4930123456").unwrap(),
            Connect::parse("sip:q@pbx.example.com").unwrap(),
        );
        // (who calls, what was called, what a phone is shown with and without a number of ours, what a SIP line is shown)
        let cases = [
            (
                "+14155550100",
                CALLED,
                Some("+14155550100"),
                Some("+14155550100"),
                Some("+14155550100"),
            ),
            (
                "+14155550100",
                None,
                Some("+14155550100"),
                Some("+14155550100"),
                Some("+14155550100"),
            ),
            ("+266696687", CALLED, CALLED, CALLED, CALLED),
            ("anonymous", CALLED, CALLED, CALLED, CALLED),
            ("", CALLED, CALLED, CALLED, CALLED),
            ("5035551212", CALLED, CALLED, CALLED, CALLED),
            ("müller", CALLED, CALLED, CALLED, CALLED),
            ("anonymous", None, Some(OURS), None, None),
            ("5035551212", Some("1234"), Some(OURS), None, None),
            ("client:alice", CALLED, Some(OURS), CALLED, CALLED),
            ("client:alice", None, Some(OURS), None, None),
            (
                "sip:alice@pbx.example.com",
                CALLED,
                Some(OURS),
                CALLED,
                None,
            ),
            (
                "sip:+14155550100@pbx.example.com",
                SIP,
                Some(OURS),
                None,
                None,
            ),
            (
                "sip:anonymous@anonymous.invalid",
                SIP,
                Some(OURS),
                None,
                None,
            ),
        ];
        for (from, called, on_phone, without_ours, on_line) in cases {
            let caller = Caller::classify(from);
            let shown = |policy: &CallerIdPolicy, connect| {
                let shown = shown_number(policy, Some(&caller), called, connect);
                shown.map(|number| number.as_str().to_owned())
            };
            let expected = |text: Option<&str>| text.map(str::to_owned);
            let with_ours = caller_or(OURS);
            assert_eq!(shown(&with_ours, &phone), expected(on_phone), "{from}");
            assert_eq!(shown(&CALLER, &phone), expected(without_ours), "{from}");
            assert_eq!(shown(&with_ours, &line), expected(on_line), "{from}");
            let always = CallerIdPolicy::Number(number("+4930888888"));
            for connect in [&phone, &line] {
                assert_eq!(shown(&always, connect).as_deref(), Some("+4930888888"));
            }
        }
        let shown = |policy: &CallerIdPolicy, called| shown_number(policy, None, called, &phone);
        assert_eq!(shown(&caller_or(OURS), None), Some(number(OURS)));
        assert_eq!(shown(&CALLER, CALLED), CALLED.map(number));
        assert_eq!(shown_number(&caller_or(OURS), None, CALLED, &line), None);
    }

    #[test]
    fn the_last_resort_reports_back_like_a_dialer() {
        let urls = CallbackUrls::new("https://calls.example.com");
        let answer = connect(&ConnectTo {
            connect: &Connect::Number(number("+4930777777")),
            caller: &Caller::Withheld,
            called: Some("+18005551212"),
            caller_id: &CALLER,
            ring_timeout: Duration::from_millis(20_001),
            action_url: &urls.dial(3, None, |_| None),
            status_url: &urls.status(3, None),
            sip_headers: &[],
        });
        assert_eq!(
            answer.to_xml(),
            concat!(
                r#"<?xml version="1.0" encoding="UTF-8"?>"#,
                r#"<Response><Dial answerOnBridge="true" timeout="21" callerId="+18005551212""#,
                r#" action="https://calls.example.com/webhooks/twilio/dial?step=3#ct=2000&amp;rt=6000&amp;rc=1&amp;rp=ct,rt,5xx">"#,
                r#"<Number statusCallback="https://calls.example.com/webhooks/twilio/status?step=3#ct=2000&amp;rt=6000&amp;rc=1&amp;rp=ct,rt,5xx""#,
                r#" statusCallbackEvent="initiated ringing answered completed">+4930777777</Number>"#,
                r#"</Dial></Response>"#,
            )
        );
    }

    #[test]
    fn short_answers() {
        const HEAD: &str = r#"<?xml version="1.0" encoding="UTF-8"?>"#;
        let hold_url = "https://calls.example.com/webhooks/twilio/hold?n=2";
        let cases = [
            (nothing(), "<Response/>"),
            (
                goodbye("Auf Wiederhören & <danke>", "de-DE"),
                r#"<Response><Say language="de-DE">Auf Wiederhören &amp; &lt;danke&gt;</Say><Hangup/></Response>"#,
            ),
            (goodbye(" \n", "de-DE"), "<Response><Hangup/></Response>"),
            (
                goodbye("Bye", ""),
                "<Response><Say>Bye</Say><Hangup/></Response>",
            ),
            (
                hold("Bitte warten.", "de-DE", HOLD_PAUSE, hold_url),
                r#"<Response><Say language="de-DE">Bitte warten.</Say><Pause length="5"/><Redirect>https://calls.example.com/webhooks/twilio/hold?n=2</Redirect></Response>"#,
            ),
            (
                hold("", "de-DE", Duration::from_millis(1_200), hold_url),
                r#"<Response><Pause length="2"/><Redirect>https://calls.example.com/webhooks/twilio/hold?n=2</Redirect></Response>"#,
            ),
        ];
        for (answer, expected) in cases {
            assert_eq!(answer.to_xml(), format!("{HEAD}{expected}"));
        }
    }

    #[test]
    fn the_safe_answer_takes_what_there_is() {
        let (last, line) = (
            number("+4930777777"),
            Connect::parse("sip:q@pbx.example.com").unwrap(),
        );
        let phone = Connect::parse("+4930123456").unwrap();
        let sip_caller = Caller::classify("sip:alice@pbx.example.com");
        let (policy, with_ours) = (CALLER, caller_or("+4930999999"));
        let nothing_known = Safe {
            last_resort: Some(&last),
            default_connect: Some(&line),
            caller: None,
            called: None,
            caller_id: &policy,
            ring_timeout: Duration::from_secs(20),
            goodbye: "Bye",
            language: "en-US",
        };
        let cases = [
            (
                Safe {
                    caller_id: &with_ours,
                    ..nothing_known
                },
                r#"<Dial answerOnBridge="true" timeout="20" callerId="+4930999999"><Number>+4930777777</Number></Dial>"#,
            ),
            (
                nothing_known,
                r#"<Dial answerOnBridge="true" timeout="20"><Number>+4930777777</Number></Dial>"#,
            ),
            // No number to show to a phone: the SIP line, or else a few words.
            (
                Safe {
                    caller: Some(&sip_caller),
                    ..nothing_known
                },
                r#"<Dial answerOnBridge="true" timeout="20"><Sip>sip:q@pbx.example.com</Sip></Dial>"#,
            ),
            (
                Safe {
                    caller: Some(&sip_caller),
                    default_connect: Some(&phone),
                    ..nothing_known
                },
                r#"<Say language="en-US">Bye</Say><Hangup/>"#,
            ),
            (
                Safe {
                    caller: Some(&sip_caller),
                    caller_id: &with_ours,
                    ..nothing_known
                },
                r#"<Dial answerOnBridge="true" timeout="20" callerId="+4930999999"><Number>+4930777777</Number></Dial>"#,
            ),
            (
                Safe {
                    caller: Some(&Caller::Withheld),
                    called: Some("+18005551212"),
                    ..nothing_known
                },
                r#"<Dial answerOnBridge="true" timeout="20" callerId="+18005551212"><Number>+4930777777</Number></Dial>"#,
            ),
            (
                Safe {
                    last_resort: None,
                    ..nothing_known
                },
                r#"<Dial answerOnBridge="true" timeout="20"><Sip>sip:q@pbx.example.com</Sip></Dial>"#,
            ),
            (
                Safe {
                    last_resort: None,
                    default_connect: None,
                    ..nothing_known
                },
                r#"<Say language="en-US">Bye</Say><Hangup/>"#,
            ),
        ];
        for (to, expected) in cases {
            assert_eq!(
                safe(&to).to_xml(),
                format!(r#"<?xml version="1.0" encoding="UTF-8"?><Response>{expected}</Response>"#)
            );
        }
    }
}
