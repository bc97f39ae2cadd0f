//! What a webhook says: fields of the wire become events of a call.
//!
//! Twilio adds parameters without notice and leaves documented ones out, so only what an endpoint cannot do without is required: the
//! `CallSid`, and what we put into the URL of a later step ourselves.

use std::borrow::Cow;

use super::extract::{Malformed, SignedWebhook};
use super::form::Form;
use super::structure::Flaw;
use crate::audit::Adoption;
use crate::call::{CallId, DialReport, EndReason, InboundCall, LegReport, LegStatus, PassportUse};
use crate::phone::Caller;
use crate::routing::DialerId;
use crate::twiml::CallbackUrls;

/// A value is read up to this many characters; real ones are far shorter.
const MAX_VALUE: usize = 256;
/// `ErrorUrl` is a URL of ours, or one that somebody typed in Twilio's console.
const MAX_URL: usize = 2_048;
/// Twilio could not fetch an answer; all other codes are of an answer that it could not use (<https://www.twilio.com/docs/api/errors>).
const NOT_FETCHED: std::ops::RangeInclusive<u32> = 11_200..=11_237;

/// A `<Dial>` of the call has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialEnded {
    pub call: InboundCall,
    pub report: DialReport,
    /// The call as it stood, sealed; from our own query.
    pub passport: Option<String>,
    /// How it is adopted, where only the passport tells of it.
    pub adoption: Adoption,
}

/// A caller on hold asks again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldCall {
    pub call: InboundCall,
    /// Which round of holding this is; from our own query.
    pub round: u32,
    /// The caller has hung up.
    pub caller_gone: bool,
    /// The call as it stood, sealed; from our own query.
    pub passport: Option<String>,
    /// How it is adopted, where only the passport tells of it.
    pub adoption: Adoption,
}

/// A status callback: of a leg that `<Dial>` made, or of the caller's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusReport {
    /// The call: the caller's leg.
    pub call_id: CallId,
    pub report: LegReport,
}

/// Twilio could not use an answer of ours and asks for another one. Nothing is required of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FallbackCall {
    /// The caller's leg, where it can be read.
    pub call_id: Option<CallId>,
    /// Who calls, where that can be read: a caller who hides the number says so.
    pub caller: Option<Caller>,
    /// What was called, as received.
    pub called: Option<String>,
    /// What went wrong, in Twilio's numbers: 11200 and others.
    pub error_code: Option<String>,
}

impl InboundCall {
    /// Reads who calls whom, as every webhook of the caller's leg says.
    pub fn of_webhook(webhook: &SignedWebhook) -> Self {
        let form = &webhook.form;
        Self {
            call_id: webhook.call_id.clone(),
            caller: Caller::classify(&value(form, "From").unwrap_or_default()),
            called: called(form),
        }
    }
}

impl SignedWebhook {
    /// Whether a caller may be waiting for the answer: it is no leg that we dialled, and it is not over.
    pub fn is_waited_for(&self) -> bool {
        self.form.text("Direction").as_deref() != Some("outbound-dial") && !is_over(&self.form)
    }

    /// Whether Twilio asks here because it could fetch an answer elsewhere and could not use it.
    pub fn is_after_unusable_answer(&self) -> bool {
        number::<u32>(&self.form, "ErrorCode").is_some_and(|code| !NOT_FETCHED.contains(&code))
    }

    /// The webhook that Twilio could not bring, where it asks here for that reason and the call had begun: what `ErrorUrl` names, with the
    /// fields of this one.
    pub fn not_brought(&self, urls: &CallbackUrls) -> Option<Self> {
        let code = number(&self.form, "ErrorCode")?;
        let url = self
            .form
            .text("ErrorUrl")
            .filter(|url| url.len() <= MAX_URL)?;
        let parts = urls.parts(url.trim())?;
        let goes_on = NOT_FETCHED.contains(&code) && !parts.webhook.is_empty();
        goes_on.then(|| Self {
            path: format!("/webhooks/twilio/{}", parts.webhook),
            query: Form::parse(parts.query.as_bytes()),
            ..self.clone()
        })
    }
}

impl DialEnded {
    /// Reads an action request of `<Dial>`.
    pub fn read(webhook: &SignedWebhook) -> Result<Self, Flaw> {
        let form = &webhook.form;
        Ok(Self {
            call: InboundCall::of_webhook(webhook),
            report: DialReport {
                step: ours(&webhook.query, "step")?.ok_or(Flaw::StepMissing)?,
                dialer: dialer(&webhook.query)?,
                end: dial_end(form),
                leg: call_id_of(form, "DialCallSid"),
                duration_s: number(form, "DialCallDuration"),
                sip_code: number(form, "DialSipResponseCode"),
                caller_gone: is_over(form),
            },
            passport: passport(&webhook.query)?,
            adoption: Adoption::Passport,
        })
    }
}

impl DialEnded {
    /// What a passport has to be good for.
    pub fn passport_use(&self) -> PassportUse<'_> {
        PassportUse {
            call: &self.call.call_id,
            webhook: "dial",
            step: self.report.step,
        }
    }

    /// As [`DialEnded::read`], where the path says that it is one.
    pub fn of_url(webhook: &SignedWebhook) -> Option<Self> {
        let is_one = webhook.path.ends_with("/dial");
        is_one.then(|| Self::read(webhook).ok()).flatten()
    }
}

impl HeldCall {
    /// What a passport has to be good for.
    pub fn passport_use(&self) -> PassportUse<'_> {
        PassportUse {
            call: &self.call.call_id,
            webhook: "hold",
            step: self.round,
        }
    }

    /// As [`HeldCall::read`], where the path says that it is one.
    pub fn of_url(webhook: &SignedWebhook) -> Option<Self> {
        let is_one = webhook.path.ends_with("/hold");
        is_one.then(|| Self::read(webhook).ok()).flatten()
    }

    /// Reads the request that a hold answer redirects to.
    pub fn read(webhook: &SignedWebhook) -> Result<Self, Flaw> {
        let form = &webhook.form;
        Ok(Self {
            call: InboundCall::of_webhook(webhook),
            round: ours(&webhook.query, "n")?.ok_or(Flaw::StepMissing)?,
            caller_gone: is_over(form),
            passport: passport(&webhook.query)?,
            adoption: Adoption::Passport,
        })
    }
}

impl StatusReport {
    /// Reads a status callback. Those of the number itself have no step.
    pub fn read(webhook: &SignedWebhook) -> Result<Self, Flaw> {
        let form = &webhook.form;
        let leg = webhook.call_id.clone();
        let parent = call_id_of(form, "ParentCallSid").filter(|parent| *parent != leg);
        let status = leg_status(form).ok_or(Flaw::StatusMissing)?;
        Ok(Self {
            call_id: parent.clone().unwrap_or_else(|| leg.clone()),
            report: LegReport {
                leg,
                parent,
                step: ours(&webhook.query, "step")?,
                dialer: dialer(&webhook.query)?,
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
    pub fn read(webhook: &SignedWebhook) -> Self {
        Self {
            call_id: Some(webhook.call_id.clone()),
            ..Self::of_form(&webhook.form)
        }
    }

    /// What a webhook says of its parties that does not fit together.
    pub fn read_malformed(webhook: &Malformed) -> Self {
        Self::of_form(&webhook.form)
    }

    fn of_form(form: &Form) -> Self {
        Self {
            call_id: None,
            caller: value(form, "From")
                .filter(|text| text.chars().all(|c| c.is_ascii_graphic()))
                .map(|text| Caller::classify(&text)),
            called: called(form),
            error_code: value(form, "ErrorCode"),
        }
    }
}

fn call_id_of(form: &Form, name: &str) -> Option<CallId> {
    form.text(name).and_then(|text| CallId::parse(&text).ok())
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

/// A number that we put into the query ourselves; `None` where it is not there. We write it once, in decimal digits.
fn ours<N: std::str::FromStr>(query: &Form, name: &str) -> Result<Option<N>, Flaw> {
    let Some(text) = only(query, name)? else {
        return Ok(None);
    };
    let is_plain = text.bytes().all(|b| b.is_ascii_digit());
    let number = is_plain.then(|| text.parse().ok()).flatten();
    number.map(Some).ok_or(Flaw::StepMissing)
}

/// The dialer of our own query.
fn dialer(query: &Form) -> Result<Option<DialerId>, Flaw> {
    let Some(name) = only(query, "dialer")? else {
        return Ok(None);
    };
    let is_name = CallId::parse(&name).is_ok();
    is_name
        .then(|| Some(DialerId::new(&name)))
        .ok_or(Flaw::StepMissing)
}

/// The call as it stood when the answer before was made, sealed.
fn passport(query: &Form) -> Result<Option<String>, Flaw> {
    Ok(only(query, "p")?.map(Cow::into_owned))
}

/// The value of a name that we write once.
fn only<'q>(query: &'q Form, name: &str) -> Result<Option<Cow<'q, str>>, Flaw> {
    let n = query.names().filter(|known| *known == name).count();
    if n > 1 {
        return Err(Flaw::StepMissing);
    }
    Ok(query.text(name))
}

/// How far the caller's leg has come; `None` where it is not said, or in a word that is new to us.
fn leg_status(form: &Form) -> Option<LegStatus> {
    match &*form.text("CallStatus")? {
        "queued" | "initiated" => Some(LegStatus::Initiated),
        "ringing" => Some(LegStatus::Ringing),
        "in-progress" | "answered" => Some(LegStatus::Answered),
        other => end_reason(other).map(LegStatus::Ended),
    }
}

/// Whether the caller has hung up.
fn is_over(form: &Form) -> bool {
    matches!(leg_status(form), Some(LegStatus::Ended(_)))
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

    fn webhook(query: &str, form: &str) -> SignedWebhook {
        let form = Form::parse(form.as_bytes());
        SignedWebhook {
            path: "/webhooks/twilio".to_owned(),
            call_id: id(&form.text("CallSid").unwrap()),
            query: Form::parse(query.as_bytes()),
            form,
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
        let call = InboundCall::of_webhook(&webhook("", INBOUND));
        assert_eq!(
            call,
            InboundCall {
                call_id: id(CALL),
                caller: Caller::classify("+14155550100"),
                called: Some("+18005551212".to_owned()),
            }
        );
        let least = webhook("", &format!("CallSid={CALL}&From=%2B266696687"));
        let call = InboundCall::of_webhook(&least);
        assert_eq!((call.caller, call.called), (Caller::Withheld, None));
        assert!(least.is_waited_for());
        let long = format!("CallSid={CALL}&From={}", "x".repeat(5_000));
        let long = InboundCall::of_webhook(&webhook("", &long));
        assert_eq!(long.caller.as_text().len(), MAX_VALUE);
    }

    #[test]
    fn a_dial_has_ended() {
        let ended = DialEnded::read(&webhook("step=2&dialer=dialfire", DIAL)).unwrap();
        assert_eq!(ended.call.call_id, id(CALL));
        assert_eq!(ended.call.caller, Caller::classify("+14155550100"));
        assert_eq!(
            ended.report,
            DialReport {
                step: 2,
                dialer: Some(DialerId::new("dialfire")),
                end: EndReason::NoAnswer,
                leg: Some(id(LEG)),
                duration_s: None,
                sip_code: None,
                caller_gone: false,
            }
        );
        let last_resort = DialEnded::read(&webhook("step=3", DIAL)).unwrap();
        assert_eq!(
            (last_resort.report.dialer, last_resort.report.step),
            (None, 3)
        );
    }

    #[test]
    fn a_step_is_what_we_write_ourselves_and_stands_there_once() {
        let refused = [
            "step=",
            "step=x",
            "step=-1",
            "step=%2B1",
            "step=1AccountSidAC",
            "step=99999999999",
            "step=1&step=1",
            "step=1&dialer=",
            "step=1&dialer=a%20b",
            "dialer=a&dialer=b&step=1",
        ];
        for query in refused {
            let missing = Err(Flaw::StepMissing);
            assert_eq!(DialEnded::read(&webhook(query, DIAL)), missing, "{query}");
            let status = StatusReport::read(&webhook(query, COMPLETED));
            assert_eq!(status, Err(Flaw::StepMissing), "{query}");
        }
        let absent = DialEnded::read(&webhook("dialer=dialfire", DIAL));
        assert_eq!(absent, Err(Flaw::StepMissing));
        for query in ["", "n=", "n=x", "n=-1", "n=1&n=2", "step=1"] {
            let held = HeldCall::read(&webhook(query, INBOUND));
            assert_eq!(held, Err(Flaw::StepMissing), "{query}");
        }
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
                DialEnded::read(&webhook("step=1", &format!("CallSid={CALL}&{fields}"))).unwrap();
            assert_eq!(
                (ended.report.end, ended.report.caller_gone),
                (end, caller_gone),
                "{fields}"
            );
        }
        let sip = "DialCallStatus=completed&DialSipResponseCode=200&DialCallDuration=3";
        let sip = format!("CallSid={CALL}&{sip}");
        let ended = DialEnded::read(&webhook("step=1", &sip)).unwrap();
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
        let own = format!("CallSid={CALL}&CallStatus=completed");
        let own = StatusReport::read(&webhook("", &own)).unwrap();
        assert_eq!((own.call_id, own.report.parent), (id(CALL), None));
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
            let form =
                format!("CallSid={LEG}&ParentCallSid={CALL}&CallStatus={text}&SipResponseCode=x");
            let report = StatusReport::read(&webhook("", &form)).unwrap().report;
            assert_eq!((report.status, report.sip_code), (status, None), "{text}");
        }
        for status in ["", "&CallStatus=something-new"] {
            let form = format!("CallSid={CALL}{status}");
            assert_eq!(
                StatusReport::read(&webhook("", &form)),
                Err(Flaw::StatusMissing)
            );
        }
    }

    #[test]
    fn a_caller_on_hold_and_a_fallback() {
        let held = format!("CallSid={CALL}&CallStatus=completed");
        let held = HeldCall::read(&webhook("n=3", &held)).unwrap();
        assert_eq!((held.round, held.caller_gone), (3, true));
        let fallback = format!("CallSid={CALL}&From=%2B14155550100&ErrorCode=11200");
        let fallback = FallbackCall::read(&webhook("", &fallback));
        assert_eq!(fallback.call_id, Some(id(CALL)));
        assert_eq!(fallback.error_code.as_deref(), Some("11200"));
    }
}
