//! What a webhook says: fields of the wire become events of a call.
//!
//! Twilio adds parameters without notice and leaves documented ones out, so only what an endpoint cannot do without is required: the
//! `CallSid`, and for the end of a dial the `step` that we put into its URL ourselves.

use super::extract::Webhook;
use super::form::Form;
use crate::call::{CallId, DialReport, EndReason, LegReport, LegStatus};
use crate::phone::{Caller, E164};
use crate::routing::DialerId;

/// A value is read up to this many characters; real ones are far shorter.
const MAX_VALUE: usize = 256;

/// A webhook that is signed and still cannot be used. The caller gets the safe answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// No `CallSid`, or an empty one.
    #[error("the webhook has no CallSid")]
    CallSidMissing,
    /// A `CallSid` that cannot name a call.
    #[error("the webhook's CallSid is not an id: 1 to 64 characters of A-Z a-z 0-9 _ -")]
    CallSidOdd,
    /// An action request whose own query does not say which dial has ended.
    #[error("the query of the action URL has no usable step")]
    StepMissing,
    /// A status callback without a status of a call, as for a recording.
    #[error("the status callback names no status of a call")]
    StatusMissing,
}

impl Unusable {
    /// The stable name, for counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CallSidMissing => "call_sid_missing",
            Self::CallSidOdd => "call_sid_odd",
            Self::StepMissing => "step_missing",
            Self::StatusMissing => "status_missing",
        }
    }
}

/// The direction of a leg, as Twilio says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Somebody called us.
    Inbound,
    /// Made by the REST API.
    OutboundApi,
    /// Made by `<Dial>`.
    OutboundDial,
    /// Not said, or a value of its own.
    Other,
}

/// How far the caller's leg has come, as Twilio says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallProgress {
    /// Under way: set up, ringing or answered.
    Under(LegStatus),
    /// Not said, or a value of its own.
    Unsaid,
}

impl CallProgress {
    /// Whether the caller has hung up.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Under(LegStatus::Ended(_)))
    }
}

/// A call arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncomingCall {
    /// The caller's leg.
    pub call_id: CallId,
    /// The account that owns the number.
    pub account_sid: Option<String>,
    /// Who calls.
    pub caller: Caller,
    /// What was called, as received: a number, or a SIP address.
    pub called: Option<String>,
    /// Which way the call goes.
    pub direction: Direction,
    /// How far it has come.
    pub progress: CallProgress,
    /// `StirVerstat`: how far the caller's number can be believed. Compare exactly; its values are prefixes of each other.
    pub stir: Option<String>,
    /// Who forwarded the call to us, as the carrier writes it.
    pub forwarded_from: Option<String>,
}

/// A `<Dial>` has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialEnded {
    /// The caller's leg.
    pub call_id: CallId,
    /// Who calls.
    pub caller: Caller,
    /// What was called, as received.
    pub called: Option<String>,
    /// Who was dialled; from our own query. `None` for the last resort.
    pub dialer: Option<DialerId>,
    /// How it ended.
    pub report: DialReport,
}

/// A caller on hold asks again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldCall {
    /// The caller's leg.
    pub call_id: CallId,
    /// Who calls.
    pub caller: Caller,
    /// What was called, as received.
    pub called: Option<String>,
    /// Which round of holding this is; from our own query, 0 if it does not say.
    pub round: u32,
    /// The caller has hung up.
    pub caller_gone: bool,
}

/// A status callback: of a leg that `<Dial>` made, or of the caller's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusReport {
    /// The call: the caller's leg.
    pub call_id: CallId,
    /// What it says.
    pub report: LegReport,
}

/// Twilio could not use an answer of ours and asks for another one. Nothing is required of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FallbackCall {
    /// The caller's leg, where it can be read.
    pub call_id: Option<CallId>,
    /// Who calls.
    pub caller: Caller,
    /// What was called, as received.
    pub called: Option<String>,
    /// What went wrong, in Twilio's numbers: 11200 and others.
    pub error_code: Option<String>,
    /// Which URL could not be used.
    pub error_url: Option<String>,
}

impl IncomingCall {
    /// Reads the webhook of a new call.
    pub fn read(webhook: &Webhook) -> Result<Self, Unusable> {
        let form = &webhook.form;
        Ok(Self {
            call_id: call_sid(form)?,
            account_sid: value(form, "AccountSid"),
            caller: caller(form),
            called: called(form),
            direction: direction(form),
            progress: progress(form),
            stir: value(form, "StirVerstat"),
            forwarded_from: value(form, "ForwardedFrom"),
        })
    }

    /// The called number, where it is one.
    pub fn called_number(&self) -> Option<E164> {
        self.called.as_deref().and_then(|c| E164::parse(c).ok())
    }
}

impl DialEnded {
    /// Reads an action request of `<Dial>`.
    pub fn read(webhook: &Webhook) -> Result<Self, Unusable> {
        let form = &webhook.form;
        let call_id = call_sid(form)?;
        let step = number(&webhook.query, "step").ok_or(Unusable::StepMissing)?;
        Ok(Self {
            call_id,
            caller: caller(form),
            called: called(form),
            dialer: dialer(&webhook.query),
            report: DialReport {
                step,
                end: dial_end(form),
                leg: call_id_of(form, "DialCallSid"),
                duration_s: number(form, "DialCallDuration"),
                sip_code: number(form, "DialSipResponseCode"),
                caller_gone: progress(form).is_over(),
            },
        })
    }
}

impl HeldCall {
    /// Reads the request that a hold answer redirects to.
    pub fn read(webhook: &Webhook) -> Result<Self, Unusable> {
        let form = &webhook.form;
        Ok(Self {
            call_id: call_sid(form)?,
            caller: caller(form),
            called: called(form),
            round: number(&webhook.query, "n").unwrap_or(0),
            caller_gone: progress(form).is_over(),
        })
    }
}

impl StatusReport {
    /// Reads a status callback.
    pub fn read(webhook: &Webhook) -> Result<Self, Unusable> {
        let form = &webhook.form;
        let leg = call_sid(form)?;
        let parent = call_id_of(form, "ParentCallSid").filter(|parent| *parent != leg);
        let CallProgress::Under(status) = progress(form) else {
            return Err(Unusable::StatusMissing);
        };
        Ok(Self {
            call_id: parent.clone().unwrap_or_else(|| leg.clone()),
            report: LegReport {
                leg,
                parent,
                step: number(&webhook.query, "step"),
                dialer: dialer(&webhook.query),
                status,
                sequence: number(form, "SequenceNumber"),
                // `Duration` beside it counts minutes.
                duration_s: number(form, "CallDuration"),
                sip_code: number(form, "SipResponseCode"),
            },
        })
    }
}

impl FallbackCall {
    /// Reads a request to the fallback URL.
    pub fn read(webhook: &Webhook) -> Self {
        let form = &webhook.form;
        Self {
            call_id: call_sid(form).ok(),
            caller: caller(form),
            called: called(form),
            error_code: value(form, "ErrorCode"),
            error_url: value(form, "ErrorUrl"),
        }
    }
}

fn call_sid(form: &Form) -> Result<CallId, Unusable> {
    let text = form.text("CallSid").unwrap_or_default();
    if text.is_empty() {
        return Err(Unusable::CallSidMissing);
    }
    CallId::parse(&text).map_err(|_| Unusable::CallSidOdd)
}

fn call_id_of(form: &Form, name: &str) -> Option<CallId> {
    form.text(name).and_then(|text| CallId::parse(&text).ok())
}

fn caller(form: &Form) -> Caller {
    Caller::classify(&value(form, "From").unwrap_or_default())
}

fn called(form: &Form) -> Option<String> {
    value(form, "To")
}

/// A value as text, without white space at its ends, cut; `None` where it is absent or empty, which Twilio does not tell apart.
fn value(form: &Form, name: &str) -> Option<String> {
    let text = form.text(name)?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.chars().take(MAX_VALUE).collect())
}

fn number<N: std::str::FromStr>(form: &Form, name: &str) -> Option<N> {
    form.text(name)?.trim().parse().ok()
}

/// The dialer of our own query; what could not be one of ours is no dialer.
fn dialer(query: &Form) -> Option<DialerId> {
    let name = query.text("dialer")?;
    CallId::parse(&name).ok().map(|_| DialerId::new(&name))
}

fn direction(form: &Form) -> Direction {
    match form.text("Direction").as_deref() {
        Some("inbound") => Direction::Inbound,
        Some("outbound-api") => Direction::OutboundApi,
        Some("outbound-dial") => Direction::OutboundDial,
        Some(_) | None => Direction::Other,
    }
}

fn progress(form: &Form) -> CallProgress {
    let status = match form.text("CallStatus").as_deref() {
        Some("queued" | "initiated") => LegStatus::Initiated,
        Some("ringing") => LegStatus::Ringing,
        Some("in-progress" | "answered") => LegStatus::Answered,
        Some(other) => match end_reason(other) {
            Some(end) => LegStatus::Ended(end),
            None => return CallProgress::Unsaid,
        },
        None => return CallProgress::Unsaid,
    };
    CallProgress::Under(status)
}

/// How a dial ended. A value that is new to us counts as failed, so that the next dialer is rung, unless the two were connected.
fn dial_end(form: &Form) -> EndReason {
    let status = form.text("DialCallStatus").unwrap_or_default();
    if status == "answered" {
        return EndReason::Completed;
    }
    end_reason(&status).unwrap_or_else(|| {
        if form.text("DialBridged").as_deref() == Some("true") {
            EndReason::Completed
        } else {
            EndReason::Failed
        }
    })
}

pub(super) fn end_reason(status: &str) -> Option<EndReason> {
    match status {
        "completed" => Some(EndReason::Completed),
        "busy" => Some(EndReason::Busy),
        "no-answer" => Some(EndReason::NoAnswer),
        "failed" => Some(EndReason::Failed),
        "canceled" => Some(EndReason::Canceled),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Key sets as recorded from Twilio; the numbers are made up.
    const INBOUND: &str = "Called=%2B18005551212&ToState=&CallerCountry=US&Direction=inbound&CallerState=CA&ToZip=&CallSid=CA00000000000000000000000000000001&To=%2B18005551212&CallerZip=94105&ToCountry=US&StirVerstat=TN-Validation-Passed-A&CallToken=%257B%2522parentCallInfoToken%2522%253A%2522abc%2522%257D&CallStatus=ringing&From=%2B14155550100&AccountSid=AC00000000000000000000000000000001&FromCity=SAN+FRANCISCO";
    const DIAL: &str = "DialCallStatus=no-answer&Direction=inbound&DialCallSid=CA00000000000000000000000000000002&CallSid=CA00000000000000000000000000000001&To=%2B18005551212&CallStatus=in-progress&From=%2B14155550100&DialBridged=false";
    const COMPLETED: &str = "Direction=outbound-dial&SequenceNumber=3&To=%2B551135550100&CallSid=CA00000000000000000000000000000002&ParentCallSid=CA00000000000000000000000000000001&CallStatus=completed&Duration=1&From=%2B12125550100&CallDuration=49";

    fn webhook(query: &str, form: &str) -> Webhook {
        Webhook {
            path: "/webhooks/twilio".to_owned(),
            query: Form::parse(query.as_bytes()),
            form: Form::parse(form.as_bytes()),
            source: None,
        }
    }

    fn id(text: &str) -> CallId {
        CallId::parse(text).unwrap()
    }

    const CALL: &str = "CA00000000000000000000000000000001";
    const LEG: &str = "CA00000000000000000000000000000002";

    #[test]
    fn a_call_arrives() {
        let call = IncomingCall::read(&webhook("", INBOUND)).unwrap();
        assert_eq!(
            call,
            IncomingCall {
                call_id: id(CALL),
                account_sid: Some("AC00000000000000000000000000000001".to_owned()),
                caller: Caller::classify("+14155550100"),
                called: Some("+18005551212".to_owned()),
                direction: Direction::Inbound,
                progress: CallProgress::Under(LegStatus::Ringing),
                stir: Some("TN-Validation-Passed-A".to_owned()),
                forwarded_from: None,
            }
        );
        assert_eq!(call.called_number(), E164::parse("+18005551212").ok());
        let least =
            IncomingCall::read(&webhook("", "CallSid=CA1&ForwardedFrom=&From=%2B266696687"))
                .unwrap();
        assert_eq!(least.caller, Caller::Withheld);
        assert_eq!(
            (
                least.called,
                least.stir,
                least.forwarded_from,
                least.progress
            ),
            (None, None, None, CallProgress::Unsaid)
        );
        let long = format!("CallSid=CA1&From={}", "x".repeat(5_000));
        let long = IncomingCall::read(&webhook("", &long)).unwrap();
        assert_eq!(long.caller.as_text().len(), MAX_VALUE);
    }

    #[test]
    fn a_call_without_a_usable_id_is_refused_with_a_reason() {
        let cases = [
            ("", Unusable::CallSidMissing),
            ("From=%2B14155550100", Unusable::CallSidMissing),
            ("CallSid=", Unusable::CallSidMissing),
            ("CallSid=CA+1", Unusable::CallSidOdd),
            ("CallSid=CA1%00", Unusable::CallSidOdd),
            ("CallSid=CA%FF", Unusable::CallSidOdd),
            ("CallSid=..%2F..%2Fx", Unusable::CallSidOdd),
        ];
        for (form, expected) in cases {
            let webhook = webhook("step=1", form);
            assert_eq!(IncomingCall::read(&webhook), Err(expected), "{form}");
            assert_eq!(DialEnded::read(&webhook), Err(expected), "{form}");
            assert_eq!(StatusReport::read(&webhook), Err(expected), "{form}");
            assert_eq!(HeldCall::read(&webhook), Err(expected), "{form}");
            assert_eq!(FallbackCall::read(&webhook).call_id, None, "{form}");
        }
        let long = format!("CallSid={}", "A".repeat(65));
        assert_eq!(
            IncomingCall::read(&webhook("", &long)),
            Err(Unusable::CallSidOdd)
        );
    }

    #[test]
    fn a_dial_has_ended() {
        let ended = DialEnded::read(&webhook("step=2&dialer=dialfire", DIAL)).unwrap();
        assert_eq!(ended.call_id, id(CALL));
        assert_eq!(ended.dialer, Some(DialerId::new("dialfire")));
        assert_eq!(ended.caller, Caller::classify("+14155550100"));
        assert_eq!(
            ended.report,
            DialReport {
                step: 2,
                end: EndReason::NoAnswer,
                leg: Some(id(LEG)),
                duration_s: None,
                sip_code: None,
                caller_gone: false,
            }
        );
        for query in ["", "step=", "step=x", "step=-1", "step=99999999999"] {
            assert_eq!(
                DialEnded::read(&webhook(query, DIAL)),
                Err(Unusable::StepMissing),
                "{query}"
            );
        }
        let odd = DialEnded::read(&webhook("step=1&dialer=a%20b", DIAL)).unwrap();
        assert_eq!(odd.dialer, None);
    }

    #[test]
    fn the_end_of_a_dial_is_read_from_what_is_said_of_the_dial() {
        let cases = [
            ("DialCallStatus=completed", EndReason::Completed, false),
            ("DialCallStatus=answered", EndReason::Completed, false),
            (
                "DialCallStatus=busy&DialSipResponseCode=486",
                EndReason::Busy,
                false,
            ),
            (
                "DialCallStatus=failed&CallStatus=in-progress",
                EndReason::Failed,
                false,
            ),
            ("DialCallStatus=canceled", EndReason::Canceled, false),
            ("DialCallStatus=something-new", EndReason::Failed, false),
            (
                "DialCallStatus=something-new&DialBridged=true",
                EndReason::Completed,
                false,
            ),
            ("", EndReason::Failed, false),
            (
                "DialCallStatus=no-answer&CallStatus=completed",
                EndReason::NoAnswer,
                true,
            ),
            (
                "DialCallStatus=no-answer&CallStatus=canceled",
                EndReason::NoAnswer,
                true,
            ),
            (
                "DialCallStatus=busy&CallStatus=no-answer",
                EndReason::Busy,
                true,
            ),
            (
                "DialCallStatus=busy&CallStatus=something-new",
                EndReason::Busy,
                false,
            ),
        ];
        for (fields, end, caller_gone) in cases {
            let ended =
                DialEnded::read(&webhook("step=1", &format!("CallSid=CA1&{fields}"))).unwrap();
            assert_eq!(
                (ended.report.end, ended.report.caller_gone),
                (end, caller_gone),
                "{fields}"
            );
        }
        let sip = "CallSid=CA1&DialCallStatus=completed&DialSipResponseCode=200&DialCallDuration=3";
        let ended = DialEnded::read(&webhook("step=1", sip)).unwrap();
        assert_eq!(
            (ended.report.sip_code, ended.report.duration_s),
            (Some(200), Some(3))
        );
    }

    #[test]
    fn a_leg_reports() {
        let report = StatusReport::read(&webhook("step=1&dialer=zendesk", COMPLETED)).unwrap();
        assert_eq!(
            report,
            StatusReport {
                call_id: id(CALL),
                report: LegReport {
                    leg: id(LEG),
                    parent: Some(id(CALL)),
                    step: Some(1),
                    dialer: Some(DialerId::new("zendesk")),
                    status: LegStatus::Ended(EndReason::Completed),
                    sequence: Some(3),
                    duration_s: Some(49),
                    sip_code: None,
                },
            }
        );
        let own = StatusReport::read(&webhook("", "CallSid=CA1&CallStatus=completed")).unwrap();
        assert_eq!((own.call_id, own.report.parent), (id("CA1"), None));
        let statuses = [
            ("initiated", LegStatus::Initiated),
            ("queued", LegStatus::Initiated),
            ("ringing", LegStatus::Ringing),
            ("in-progress", LegStatus::Answered),
            ("busy", LegStatus::Ended(EndReason::Busy)),
            ("no-answer", LegStatus::Ended(EndReason::NoAnswer)),
            ("failed", LegStatus::Ended(EndReason::Failed)),
            ("canceled", LegStatus::Ended(EndReason::Canceled)),
        ];
        for (text, status) in statuses {
            let form = format!("CallSid=CA2&ParentCallSid=CA1&CallStatus={text}&SipResponseCode=x");
            let report = StatusReport::read(&webhook("", &form)).unwrap().report;
            assert_eq!((report.status, report.sip_code), (status, None), "{text}");
        }
        for form in ["CallSid=CA1", "CallSid=CA1&CallStatus=something-new"] {
            assert_eq!(
                StatusReport::read(&webhook("", form)),
                Err(Unusable::StatusMissing)
            );
        }
    }

    #[test]
    fn a_caller_on_hold_and_a_fallback() {
        let held = HeldCall::read(&webhook("n=3", "CallSid=CA1&CallStatus=completed")).unwrap();
        assert_eq!((held.round, held.caller_gone), (3, true));
        let fallback = FallbackCall::read(&webhook(
            "",
            "CallSid=CA1&From=%2B14155550100&ErrorCode=11200&ErrorUrl=https%3A%2F%2Frouter.example.com%2Ftwilio%2Fvoice",
        ));
        assert_eq!(fallback.call_id, Some(id("CA1")));
        assert_eq!(fallback.error_code.as_deref(), Some("11200"));
        assert_eq!(
            fallback.error_url.as_deref(),
            Some("https://router.example.com/twilio/voice")
        );
    }
}
