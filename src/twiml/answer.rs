//! What a decision sounds like: from what was decided to the answer that Twilio gets. Pure; one function per answer.

use std::time::Duration;

use super::connect::Connect;
use super::verb::{Dial, Noun, Pause, Redirect, Say, SipUri, Verb, VoiceResponse};
use crate::phone::{Caller, E164};

/// The silence between two questions of a caller on hold, where nothing says that it should be shorter.
pub const HOLD_PAUSE: Duration = Duration::from_secs(5);

/// Which number the dialer sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallerIdPolicy {
    /// The caller's, where it is one.
    Caller,
    /// Always this one of ours.
    Number(E164),
}

/// A line to connect the caller to.
#[derive(Clone, Copy, Debug)]
pub struct ConnectTo<'a> {
    /// The line.
    pub connect: &'a Connect,
    /// Who calls.
    pub caller: &'a Caller,
    /// What was called, as received.
    pub called: Option<&'a str>,
    /// Which number the dialer sees.
    pub caller_id: &'a CallerIdPolicy,
    /// How long it rings.
    pub ring_timeout: Duration,
    /// Where the end of the dial is reported.
    pub action_url: &'a str,
    /// Where the leg reports its progress.
    pub status_url: &'a str,
    /// Headers for a SIP line: `X-…` names and plain values.
    pub sip_headers: &'a [(&'a str, String)],
}

/// The last-resort number, to connect the caller to when nothing else is left.
#[derive(Clone, Copy, Debug)]
pub struct LastResort<'a> {
    /// The number.
    pub number: &'a E164,
    /// Who calls.
    pub caller: &'a Caller,
    /// What was called, as received.
    pub called: Option<&'a str>,
    /// Which number it shows.
    pub caller_id: &'a CallerIdPolicy,
    /// How long it rings.
    pub ring_timeout: Duration,
    /// Where the end of the dial is reported.
    pub action_url: &'a str,
    /// Where the leg reports its progress.
    pub status_url: &'a str,
}

/// All that a safe answer may use: configuration, and as much of the call as could be read.
#[derive(Clone, Copy, Debug)]
pub struct Safe<'a> {
    /// The last-resort number.
    pub last_resort: Option<&'a E164>,
    /// The line of the default dialer.
    pub default_connect: Option<&'a Connect>,
    /// Who calls, if that could be read.
    pub caller: Option<&'a Caller>,
    /// What was called, likewise.
    pub called: Option<&'a str>,
    /// Which number the line shows.
    pub caller_id: &'a CallerIdPolicy,
    /// How long it rings.
    pub ring_timeout: Duration,
    /// What is said where there is no line at all.
    pub goodbye: &'a str,
    /// The language of that.
    pub language: &'a str,
}

/// Connects the caller to a dialer's line.
pub fn connect(to: &ConnectTo<'_>) -> VoiceResponse {
    let noun = noun(to.connect, to.sip_headers);
    let dial = Dial::new(noun, to.ring_timeout)
        .caller_id(shown_number(to.caller_id, Some(to.caller), to.called))
        .action(to.action_url)
        .status_callback(to.status_url);
    VoiceResponse::of([Verb::Dial(dial)])
}

/// Connects the caller to the last-resort number.
pub fn last_resort(to: &LastResort<'_>) -> VoiceResponse {
    connect(&ConnectTo {
        connect: &Connect::Number(to.number.clone()),
        caller: to.caller,
        called: to.called,
        caller_id: to.caller_id,
        ring_timeout: to.ring_timeout,
        action_url: to.action_url,
        status_url: to.status_url,
        sip_headers: &[],
    })
}

/// Says goodbye, and ends the call.
pub fn goodbye(message: &str, language: &str) -> VoiceResponse {
    let say = Say::new(message, language).map(Verb::Say);
    VoiceResponse::of(say.into_iter().chain([Verb::Hangup]))
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

/// Ends the call, as after a conversation.
pub fn hangup() -> VoiceResponse {
    VoiceResponse::of([Verb::Hangup])
}

/// What a caller gets when nothing can be decided: the last-resort number, else the default dialer's line, else the goodbye message.
///
/// No action URL and no status callback: what has just failed is not asked again. The call ends with the dial.
pub fn safe(to: &Safe<'_>) -> VoiceResponse {
    let noun = match (to.last_resort, to.default_connect) {
        (Some(number), _) => Noun::Number(number.clone()),
        (None, Some(connect)) => noun(connect, &[]),
        (None, None) => return goodbye(to.goodbye, to.language),
    };
    let dial = Dial::new(noun, to.ring_timeout).caller_id(shown_number(
        to.caller_id,
        to.caller,
        to.called,
    ));
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
/// first two, so there the attribute is left out. A caller without a usable number would make the dial fail; there the called number stands
/// in, if it is one.
fn shown_number(
    policy: &CallerIdPolicy,
    caller: Option<&Caller>,
    called_number: Option<&str>,
) -> Option<E164> {
    match (policy, caller) {
        (CallerIdPolicy::Number(number), _)
        | (CallerIdPolicy::Caller, Some(Caller::Number(number))) => Some(number.clone()),
        (CallerIdPolicy::Caller, Some(Caller::Sip { .. }) | None) => None,
        (
            CallerIdPolicy::Caller,
            Some(
                Caller::Withheld | Caller::National(_) | Caller::Client(_) | Caller::Unreadable(_),
            ),
        ) => called_number.and_then(|number| E164::parse(number).ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::DialerId;
    use crate::twiml::CallbackUrls;

    fn number(text: &str) -> E164 {
        E164::parse(text).unwrap()
    }

    fn connect_xml(
        connect: &str,
        from: &str,
        called: Option<&str>,
        policy: &CallerIdPolicy,
    ) -> String {
        let urls = CallbackUrls::new("https://calls.example.com");
        let dialer = DialerId::new("dialfire");
        super::connect(&ConnectTo {
            connect: &Connect::parse(connect).unwrap(),
            caller: &Caller::classify(from),
            called,
            caller_id: policy,
            ring_timeout: Duration::from_secs(20),
            action_url: &urls.dial(1, &dialer),
            status_url: &urls.status(1, &dialer),
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
            connect_xml(
                "+4930123456",
                "+14155550100",
                Some("+18005551212"),
                &CallerIdPolicy::Caller
            ),
            concat!(
                r#"<?xml version="1.0" encoding="UTF-8"?>"#,
                r#"<Response><Dial answerOnBridge="true" timeout="20" callerId="+14155550100""#,
                r#" action="https://calls.example.com/webhooks/twilio/dial?dialer=dialfire&amp;step=1">"#,
                r#"<Number statusCallback="https://calls.example.com/webhooks/twilio/status?dialer=dialfire&amp;step=1""#,
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
                &CallerIdPolicy::Caller
            ),
            concat!(
                r#"<?xml version="1.0" encoding="UTF-8"?>"#,
                r#"<Response><Dial answerOnBridge="true" timeout="20""#,
                r#" action="https://calls.example.com/webhooks/twilio/dial?dialer=dialfire&amp;step=1">"#,
                r#"<Sip statusCallback="https://calls.example.com/webhooks/twilio/status?dialer=dialfire&amp;step=1""#,
                r#" statusCallbackEvent="initiated ringing answered completed">"#,
                r#"sip:queue@acme.sip.twilio.com;transport=tls?X-Call-Sid=CA1&amp;X-Tier=hot%20%26%20new</Sip>"#,
                r#"</Dial></Response>"#,
            )
        );
    }

    #[test]
    fn the_shown_number_is_one_that_twilio_takes() {
        const OURS: Option<&str> = Some("+18005551212");
        let policy = CallerIdPolicy::Caller;
        let cases = [
            ("+14155550100", OURS, Some("+14155550100")),
            ("+266696687", OURS, OURS),
            ("anonymous", OURS, OURS),
            ("", OURS, OURS),
            ("5035551212", OURS, OURS),
            ("client:alice", OURS, OURS),
            ("müller", OURS, OURS),
            ("anonymous", None, None),
            ("anonymous", Some("1234"), None),
            ("sip:alice@pbx.example.com", OURS, None),
            ("sip:+14155550100@pbx.example.com", OURS, None),
            (
                "sip:anonymous@anonymous.invalid",
                Some("sip:1@acme.sip.twilio.com"),
                None,
            ),
        ];
        for (from, called, expected) in cases {
            let caller = Caller::classify(from);
            let shown = shown_number(&policy, Some(&caller), called);
            assert_eq!(shown, expected.map(number), "{from}");
            let ours = CallerIdPolicy::Number(number("+4930999999"));
            let shown = shown_number(&ours, Some(&caller), called);
            assert_eq!(shown, Some(number("+4930999999")), "{from}");
        }
        assert_eq!(shown_number(&policy, None, OURS), None);
    }

    #[test]
    fn the_last_resort_reports_back_like_a_dialer() {
        let urls = CallbackUrls::new("https://calls.example.com");
        let answer = last_resort(&LastResort {
            number: &number("+4930777777"),
            caller: &Caller::Withheld,
            called: Some("+18005551212"),
            caller_id: &CallerIdPolicy::Caller,
            ring_timeout: Duration::from_millis(20_001),
            action_url: &urls.last_resort_dial(3),
            status_url: &urls.last_resort_status(3),
        });
        assert_eq!(
            answer.to_xml(),
            concat!(
                r#"<?xml version="1.0" encoding="UTF-8"?>"#,
                r#"<Response><Dial answerOnBridge="true" timeout="21" callerId="+18005551212""#,
                r#" action="https://calls.example.com/webhooks/twilio/dial?step=3">"#,
                r#"<Number statusCallback="https://calls.example.com/webhooks/twilio/status?step=3""#,
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
            (hangup(), "<Response><Hangup/></Response>"),
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
        let policy = CallerIdPolicy::Caller;
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
                nothing_known,
                r#"<Dial answerOnBridge="true" timeout="20"><Number>+4930777777</Number></Dial>"#,
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
