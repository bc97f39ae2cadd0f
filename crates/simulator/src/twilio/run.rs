//! One call from its first webhook to its last: documents are executed verb by verb, each leading to the next.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;

use super::call::{Call, CallResult, Duplicate, LineBehaviour, Outcome};
use super::callbacks::Callbacks;
use super::fields::{self, Fields, Leg};
use super::rest::{Entry, rfc2822};
use super::signature::without_fragment;
use super::story::{Heard, Moment};
use super::twiml::{self, Document, Element, Refused};
use super::webhook::{Reply, Webhook};
use super::{Settings, Twilio, token};
use crate::chance::Chance;
use crate::form::Spaces;

/// More documents than this in one call are an endless loop.
const MOST_DOCUMENTS: u32 = 500;
/// How fast a text is spoken.
const CHARACTERS_PER_SECOND: f64 = 15.0;
/// How long a sound is taken to be.
const SOUND: Duration = Duration::from_secs(10);

pub(super) struct Run {
    pub(super) twilio: Twilio,
    pub(super) settings: Settings,
    pub(super) chance: Chance,
    pub(super) call: Call,
    pub(super) lines: VecDeque<LineBehaviour>,
    pub(super) callbacks: Callbacks,
    pub(super) result: CallResult,
    /// When the caller's leg was answered, in phone time.
    pub(super) answered_at: Option<Duration>,
    /// Whom the caller has talked to last.
    pub(super) talked_to: Option<String>,
    /// Where the document being executed came from.
    pub(super) current_url: String,
    call_token: String,
    /// The status of the caller's leg after `<Reject>`.
    rejected_as: &'static str,
}

pub(super) enum Next {
    /// The next verb of the same document.
    Verb,
    Document(Document),
    /// Nothing: the call is over.
    End(Outcome),
}

impl Run {
    pub(super) fn new(twilio: &Twilio, mut call: Call) -> Self {
        let (settings, mut chance) = {
            let mut state = twilio.state();
            let seed = state.chance.bits();
            (state.settings.clone(), Chance::seeded(seed))
        };
        let call_sid = call
            .call_sid
            .clone()
            .unwrap_or_else(|| format!("CA{}", chance.hex(32)));
        let entry = Entry {
            parent: None,
            from: call.from.clone(),
            to: call.to.clone(),
            direction: "inbound",
            status: "ringing",
            duration_s: None,
            started_at: Timestamp::now(),
            ended_at: None,
        };
        twilio.state().ledger.open(&call_sid, entry);
        Self {
            callbacks: Callbacks::new(twilio.clone(), settings.clone()),
            current_url: settings.voice_url(),
            call_token: chance.hex(16),
            lines: std::mem::take(&mut call.lines).into(),
            twilio: twilio.clone(),
            settings,
            chance,
            call,
            result: CallResult {
                call_sid,
                steps: Vec::new(),
                dialled: Vec::new(),
                heard: Vec::new(),
                story: Vec::new(),
                outcome: Outcome::HungUp,
                violations: Vec::new(),
                first_answer: Duration::ZERO,
                phone_time: Duration::ZERO,
            },
            answered_at: None,
            talked_to: None,
            rejected_as: "no-answer",
        }
    }

    pub(super) async fn finish(mut self) -> CallResult {
        let first = self.first_webhook();
        let mut next = self.announce(&first).await;
        let mut n_documents = 0;
        let outcome = loop {
            match next {
                Next::Document(_) if n_documents >= MOST_DOCUMENTS => break Outcome::Endless,
                Next::Document(document) => {
                    n_documents += 1;
                    next = self.execute(document).await;
                }
                Next::End(outcome) => break outcome,
                Next::Verb => break Outcome::HungUp,
            }
        };
        self.result.outcome = match (self.talked_to.take(), outcome) {
            (Some(address), Outcome::HungUp | Outcome::CallerHungUp) => Outcome::Talked { address },
            (_, outcome) => outcome,
        };
        match self.result.outcome {
            Outcome::HungUp => self.heard(Heard::Goodbye),
            Outcome::Rejected => self.heard(Heard::Rejected),
            Outcome::ErrorMessage => self.heard(Heard::Lost),
            Outcome::Talked { .. } | Outcome::CallerHungUp | Outcome::Endless => {}
        }
        let status = if self.result.outcome == Outcome::Rejected {
            self.rejected_as
        } else {
            "completed"
        };
        self.report_end(status).await;
        self.callbacks.finish(&mut self.result).await;
        if self.call.duplicate == Duplicate::AfterEnd {
            self.repeat(&first).await;
        }
        self.result
    }

    fn first_webhook(&mut self) -> Webhook {
        Webhook {
            url: self.settings.voice_url(),
            fields: self.caller_fields("ringing"),
            spaces: Spaces::Plus,
            token: token(&mut self.chance),
        }
    }

    /// The first webhook, once or twice.
    async fn announce(&mut self, first: &Webhook) -> Next {
        let reply = if self.call.duplicate == Duplicate::AtOnce {
            let (reply, again) = tokio::join!(
                self.twilio.send(&self.settings, first),
                self.twilio.send(&self.settings, first)
            );
            self.compare(&reply.exchange.body, again);
            reply
        } else {
            self.twilio.send(&self.settings, first).await
        };
        self.result.first_answer = reply.exchange.elapsed;
        let next = self.follow(first, reply).await;
        if self.call.duplicate == Duplicate::AfterAnswer {
            self.repeat(first).await;
        }
        next
    }

    async fn repeat(&mut self, first: &Webhook) {
        let again = self.twilio.send(&self.settings, first).await;
        let body = self
            .result
            .steps
            .iter()
            .find(|step| step.path == self.settings.path_of(&first.url))
            .map(|step| step.body.clone())
            .unwrap_or_default();
        self.compare(&body, again);
    }

    fn compare(&mut self, first: &str, again: Reply) {
        if again.exchange.body != first {
            let (path, second) = (&again.exchange.path, &again.exchange.body);
            let error = &again.exchange.error;
            let text = format!(
                "{path}: the same webhook got another answer the second time: {first:?}, then {second:?} ({error:?})"
            );
            self.result.violations.push(text);
        }
        self.result.steps.push(again.exchange);
    }

    /// Requests the document at `url`, with the status of the caller's leg and `extra` fields beside the standard set.
    pub(super) async fn request(&mut self, url: &str, status: &str, extra: Fields) -> Next {
        let webhook = self.follow_up(url, status, extra);
        let reply = self.twilio.send(&self.settings, &webhook).await;
        self.follow(&webhook, reply).await
    }

    /// The webhook to an address that stands in the current document.
    pub(super) fn follow_up(&mut self, url: &str, status: &str, extra: Fields) -> Webhook {
        let mut fields = self.caller_fields(status);
        fields.extend(extra);
        Webhook {
            url: resolve(url, &self.current_url),
            fields,
            spaces: Spaces::Plus,
            token: token(&mut self.chance),
        }
    }

    /// Reads a reply; where it cannot be executed, the fallback URL has the next word.
    async fn follow(&mut self, webhook: &Webhook, reply: Reply) -> Next {
        let refused = match self.read(reply) {
            Ok(document) => {
                without_fragment(&webhook.url).clone_into(&mut self.current_url);
                return Next::Document(document);
            }
            Err(refused) => refused,
        };
        let first = webhook.url == self.settings.voice_url();
        let path = self.settings.fallback_path.clone();
        let Some(path) = path.filter(|_| first || self.settings.fallback_after_actions) else {
            return Next::End(Outcome::ErrorMessage);
        };
        let mut fields = webhook.fields.clone();
        fields::push(&mut fields, "ErrorCode", &refused.code.to_string());
        let failed = without_fragment(&webhook.url);
        fields::push(&mut fields, "ErrorUrl", failed);
        let fallback = Webhook {
            url: self.settings.public(&path),
            fields,
            spaces: Spaces::Plus,
            token: token(&mut self.chance),
        };
        let reply = self.twilio.send(&self.settings, &fallback).await;
        match self.read(reply) {
            Ok(document) => {
                without_fragment(&fallback.url).clone_into(&mut self.current_url);
                Next::Document(document)
            }
            Err(_) => Next::End(Outcome::ErrorMessage),
        }
    }

    /// Records an exchange and reads its document; every refusal and warning becomes a violation.
    pub(super) fn read(&mut self, reply: Reply) -> Result<Document, Refused> {
        let Reply {
            mut exchange,
            answer,
        } = reply;
        let read = answer
            .and_then(|answered| twiml::read(answered.content_type.as_deref(), &answered.body));
        let path = exchange.path.clone();
        let told = match &read {
            Ok(document) => document.warnings.clone(),
            Err(refused) => vec![format!("{}: {}", refused.code, refused.message)],
        };
        if read.is_err() {
            exchange.error = told.first().cloned();
        }
        let told = told
            .into_iter()
            .map(|what| format!("{what} (answer of {path})"));
        self.result.violations.extend(told);
        self.result.story.push(Moment::of(&exchange));
        self.result.steps.push(exchange);
        read
    }

    async fn execute(&mut self, document: Document) -> Next {
        for verb in &document.verbs {
            match self.play(verb).await {
                Next::Verb => {}
                next @ (Next::Document(_) | Next::End(_)) => return next,
            }
        }
        Next::End(Outcome::HungUp)
    }

    async fn play(&mut self, verb: &Element) -> Next {
        match verb.name.as_str() {
            "Say" => {
                self.answer();
                let text = verb.text.trim();
                self.result.heard.push(text.to_owned());
                self.heard(Heard::Said(text.to_owned()));
                let characters = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
                let once = Duration::from_secs_f64(f64::from(characters) / CHARACTERS_PER_SECOND);
                self.wait(once.saturating_mul(repetitions(verb))).await
            }
            "Play" => {
                self.answer();
                self.result.heard.push(verb.text.trim().to_owned());
                self.heard(Heard::Said(verb.text.trim().to_owned()));
                self.wait(SOUND.saturating_mul(repetitions(verb))).await
            }
            "Pause" => {
                let seconds = verb.attribute("length").and_then(|text| text.parse().ok());
                let silence = Duration::from_secs(seconds.unwrap_or(1));
                self.heard(Heard::Silence(silence));
                self.wait(silence).await
            }
            "Redirect" => {
                self.report_get(verb);
                let status = if self.answered_at.is_some() {
                    "in-progress"
                } else {
                    "ringing"
                };
                let url = verb.text.trim();
                self.request(url, status, Fields::new()).await
            }
            "Reject" if self.answered_at.is_none() => {
                if verb.attribute("reason") == Some("busy") {
                    self.rejected_as = "busy";
                }
                Next::End(Outcome::Rejected)
            }
            "Reject" => {
                let text = "<Reject> for a call that is answered already".to_owned();
                self.result.violations.push(text);
                Next::End(Outcome::HungUp)
            }
            "Hangup" => {
                self.answer();
                Next::End(Outcome::HungUp)
            }
            "Dial" => self.dial(verb).await,
            // Told when the document was read.
            _ => Next::Verb,
        }
    }

    /// The caller hears this, of the document that was asked for last.
    pub(super) fn heard(&mut self, what: Heard) {
        if let Some(moment) = self.result.story.last_mut() {
            moment.heard.push(what);
        }
    }

    /// The caller's leg is answered, and costs money from now on.
    pub(super) fn answer(&mut self) {
        if self.answered_at.is_none() {
            self.answered_at = Some(self.result.phone_time);
            self.twilio
                .state()
                .ledger
                .set_status(&self.result.call_sid, "in-progress");
        }
    }

    async fn wait(&mut self, phone: Duration) -> Next {
        if self.is_patient_for(phone).await {
            Next::Verb
        } else {
            Next::End(Outcome::CallerHungUp)
        }
    }

    /// Lets time pass while the caller waits; false where the caller gives up before it is over.
    pub(super) async fn is_patient_for(&mut self, phone: Duration) -> bool {
        let left = self.patience_left();
        self.pass(phone.min(left)).await;
        phone <= left && !self.call.hang_up.is_cancelled()
    }

    pub(super) fn patience_left(&self) -> Duration {
        if self.call.hang_up.is_cancelled() {
            return Duration::ZERO;
        }
        self.call.patience.saturating_sub(self.result.phone_time)
    }

    /// Lets phone time pass, at the scale that is set.
    pub(super) async fn pass(&mut self, phone: Duration) {
        self.result.phone_time += phone;
        if let Some(late_ms) = &self.settings.late_ms {
            let ms = i64::try_from(phone.as_millis()).unwrap_or(i64::MAX);
            late_ms.fetch_sub(ms, Ordering::SeqCst);
        }
        if self.settings.time_scale > 0.0 {
            let slept = tokio::time::sleep(phone.mul_f64(self.settings.time_scale));
            self.call.hang_up.run_until_cancelled(slept).await;
        }
    }

    pub(super) fn caller_fields(&self, status: &str) -> Fields {
        let mut fields = inbound_fields(
            &self.settings.account_sid,
            &self.result.call_sid,
            &self.call,
            &self.call_token,
        );
        fields::set(&mut fields, "CallStatus", status);
        fields
    }

    pub(super) fn report_get(&mut self, element: &Element) {
        if element.attribute("method") == Some("GET") {
            let text = format!("<{}> by GET: this stand-in posts", element.name);
            self.result.violations.push(text);
        }
    }

    /// The number's own status callback: one event, at the end.
    async fn report_end(&mut self, status: &'static str) {
        let talked = self.answered_at.map_or(Duration::ZERO, |at| {
            self.result.phone_time.saturating_sub(at)
        });
        let seconds = talked.as_secs();
        self.twilio
            .state()
            .ledger
            .close(&self.result.call_sid, status, seconds);
        let Some(path) = self.settings.status_path.clone() else {
            return;
        };
        let mut fields = self.caller_fields(status);
        fields::push(&mut fields, "SequenceNumber", "0");
        add_end_of_leg(&mut fields, talked);
        let url = self.settings.public(&path);
        self.callbacks
            .send(url, fields, &mut self.chance, &mut self.result)
            .await;
    }
}

/// What every status callback carries, whatever its event.
pub(super) fn add_event(fields: &mut Fields) {
    let now = rfc2822(Timestamp::now());
    fields::push(fields, "Timestamp", &now);
    fields::push(fields, "CallbackSource", "call-progress-events");
}

/// What the last status callback of a leg carries.
pub(super) fn add_end_of_leg(fields: &mut Fields, talked: Duration) {
    add_event(fields);
    let seconds = talked.as_secs();
    fields::push(fields, "CallDuration", &seconds.to_string());
    fields::push(fields, "Duration", &seconds.div_ceil(60).to_string());
}

/// The fields of the first webhook.
pub(super) fn inbound_fields(
    account_sid: &str,
    call_sid: &str,
    call: &Call,
    call_token: &str,
) -> Fields {
    let mut fields = fields::of_leg(&Leg {
        sid: call_sid,
        account_sid,
        from: &call.from,
        to: &call.to,
        direction: "inbound",
        status: "ringing",
    });
    fields::add_inbound(&mut fields, call, call_token);
    fields
}

/// `loop="0"` is for ever: as long as anybody could wait.
fn repetitions(verb: &Element) -> u32 {
    match verb.attribute("loop").and_then(|text| text.parse().ok()) {
        Some(0) => 10_000,
        Some(count) => count,
        None => 1,
    }
}

/// An address in a document, seen from the document's own URL. What is written is kept byte for byte.
pub(super) fn resolve(target: &str, current: &str) -> String {
    if target.contains("://") {
        return target.to_owned();
    }
    let without_query = current.split_once('?').map_or(current, |(path, _)| path);
    let authority = without_query.find("://").map_or(0, |at| at + 3);
    let path_at = without_query
        .get(authority..)
        .and_then(|rest| rest.find('/'))
        .map_or(without_query.len(), |at| authority + at);
    let (origin, path) = without_query.split_at(path_at);
    match target.chars().next() {
        None | Some('#') => format!("{current}{target}"),
        Some('/') => format!("{origin}{target}"),
        Some('?') => format!("{without_query}{target}"),
        Some(_) => {
            let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
            format!("{origin}{directory}/{target}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_resolve_against_the_document_and_stay_as_written() {
        let current = "https://a.example/in/voice?x=1";
        for (target, resolved) in [
            (
                "https://b.example/y?z=%27#rc=1",
                "https://b.example/y?z=%27#rc=1",
            ),
            ("/dial?a=b%20c", "https://a.example/dial?a=b%20c"),
            ("dial", "https://a.example/in/dial"),
            ("?y=2", "https://a.example/in/voice?y=2"),
            ("", "https://a.example/in/voice?x=1"),
        ] {
            assert_eq!(resolve(target, current), resolved);
        }
        assert_eq!(
            resolve("/x", "http://a.example:81"),
            "http://a.example:81/x"
        );
    }
}
