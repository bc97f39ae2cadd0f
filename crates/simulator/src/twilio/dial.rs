//! `<Dial>`: rings one line or several, lets the two talk, reports the legs, and asks the action URL what is next.

use std::time::Duration;

use jiff::Timestamp;

use super::call::{DialledLeg, LegStatus, LineBehaviour, Outcome};
use super::fields::{self, Fields, Leg};
use super::rest::Entry;
use super::run::{Next, Run, add_end_of_leg, add_event, resolve};
use super::story::Heard;
use super::twiml::Element;
use crate::chance::Chance;
use crate::form;
use crate::number;

/// Twilio lets a line ring so much longer than it is told.
const RING_BUFFER: Duration = Duration::from_secs(5);
const DEFAULT_TIMEOUT_S: u64 = 30;
const DEFAULT_TIME_LIMIT_S: u64 = 14_400;

struct Line {
    sid: String,
    address: String,
    is_sip: bool,
    caller_id: String,
    headers: Vec<(String, String)>,
    callback_url: Option<String>,
    events: Vec<String>,
    n_sent: u32,
    ring: Ring,
}

/// What a line will do, with the times drawn.
#[derive(Clone, Copy)]
enum Ring {
    Answers {
        after: Duration,
        talk: Duration,
        caller_ends: bool,
    },
    Ends {
        after: Duration,
        status: LegStatus,
    },
    CallerLeaves {
        after: Duration,
    },
}

/// How a group of lines that rang together ended.
struct Ended {
    status: LegStatus,
    sid: String,
    is_sip: bool,
    talked: Option<Duration>,
    caller_left: bool,
}

impl Run {
    pub(super) async fn dial(&mut self, dial: &Element) -> Next {
        self.report_get(dial);
        if !dial.is_true("answerOnBridge") {
            self.answer();
        }
        let caller_id = self.caller_id(dial);
        let limits = Limits::of(dial);
        let lines = self.lines_of(dial, &caller_id, limits.ring);
        if lines.is_empty() {
            return self.after(dial, None).await;
        }
        let groups: Vec<Vec<Line>> = if dial.is_true("sequential") {
            lines.into_iter().map(|line| vec![line]).collect()
        } else {
            vec![lines]
        };
        let mut last = None;
        for group in groups {
            let ended = self.ring(group, limits).await;
            let over = ended.caller_left || ended.talked.is_some();
            last = Some(ended);
            if over {
                break;
            }
        }
        self.after(dial, last).await
    }

    /// The number that the lines are shown; one that Twilio would not allow is reported.
    fn caller_id(&mut self, dial: &Element) -> String {
        let from_sip = self.call.from.starts_with("sip:");
        let Some(wanted) = dial.attribute("callerId") else {
            let shown = number::is_shown(&self.call.from);
            if !shown && !from_sip {
                let text = "13247: <Dial> without callerId for a caller without a usable number";
                self.result.violations.push(text.to_owned());
            }
            return self.call.from.clone();
        };
        let of_this_call = wanted == self.call.from || wanted == self.call.to;
        let own = self.settings.own_numbers.iter().any(|own| own == wanted);
        if !(own || (of_this_call && !from_sip)) {
            let text = format!("13214: callerId {wanted:?} is neither the caller's nor ours");
            self.result.violations.push(text);
        }
        wanted.to_owned()
    }

    fn lines_of(&mut self, dial: &Element, caller_id: &str, longest: Duration) -> Vec<Line> {
        let bare;
        let nouns = if dial.children.is_empty() && !dial.text.trim().is_empty() {
            bare = [Element {
                name: "Number".to_owned(),
                text: dial.text.clone(),
                ..Element::default()
            }];
            bare.as_slice()
        } else {
            dial.children.as_slice()
        };
        let mut lines = Vec::new();
        for noun in nouns {
            if !matches!(noun.name.as_str(), "Number" | "Sip") {
                continue;
            }
            if noun.attribute("url").is_some() {
                let text = "a document for the called line is not played by this stand-in";
                self.result.violations.push(text.to_owned());
            }
            let line = self.line(noun, caller_id, longest);
            lines.push(line);
        }
        lines
    }

    fn line(&mut self, noun: &Element, caller_id: &str, longest: Duration) -> Line {
        let text = noun.text.trim();
        let is_sip = noun.name == "Sip";
        let (address, headers) = match text.split_once('?') {
            Some((address, query)) if is_sip => (address, form::decode(query)),
            _ => (text, Vec::new()),
        };
        let behaviour = self
            .lines
            .pop_front()
            .unwrap_or_else(|| self.twilio.behaviour_of(address));
        let events = noun.attribute("statusCallbackEvent").unwrap_or("completed");
        Line {
            sid: format!("CA{}", self.chance.hex(32)),
            address: address.to_owned(),
            is_sip,
            caller_id: caller_id.to_owned(),
            headers,
            callback_url: noun
                .attribute("statusCallback")
                .map(|url| resolve(url, &self.current_url)),
            events: events.split(' ').map(str::to_owned).collect(),
            n_sent: 0,
            ring: drawn(&behaviour, longest, &mut self.chance),
        }
    }

    /// Rings the lines together until one answers, all have ended, or the caller leaves.
    async fn ring(&mut self, mut lines: Vec<Line>, limits: Limits) -> Ended {
        for line in &mut lines {
            self.heard(Heard::Ring(line.address.clone()));
            self.open(line);
            self.report(line, "initiated", "initiated", None).await;
            let reachable = !matches!(
                line.ring,
                Ring::Ends {
                    status: LegStatus::Failed,
                    ..
                }
            );
            if reachable {
                self.report(line, "ringing", "ringing", None).await;
            }
        }
        let answer = lines
            .iter()
            .enumerate()
            .filter_map(|(index, line)| match line.ring {
                Ring::Answers { after, .. } => Some((after, index)),
                Ring::Ends { .. } | Ring::CallerLeaves { .. } => None,
            })
            .min();
        let all_ended = lines.iter().map(|line| line.ring.time()).max();
        let decided = answer.map_or(all_ended.unwrap_or_default(), |(after, _)| after);
        let leaves = lines
            .iter()
            .filter_map(|line| match line.ring {
                Ring::CallerLeaves { after } => Some(after),
                Ring::Answers { .. } | Ring::Ends { .. } => None,
            })
            .min();
        let rung = decided.min(leaves.unwrap_or(Duration::MAX));
        let began = self.result.phone_time;
        let stayed = self.is_patient_for(rung).await;
        let caller_left = !stayed || leaves.is_some_and(|leaves| leaves <= decided);
        let rung = self.result.phone_time.saturating_sub(began);
        let winner = answer
            .filter(|_| !caller_left)
            .map(|(_, index)| lines.remove(index));
        let last = self
            .end_unanswered(lines, rung, caller_left, winner.is_some())
            .await;
        match winner {
            Some(line) => self.talk(line, limits.talk).await,
            None => Ended {
                caller_left,
                ..last
            },
        }
    }

    /// Ends the lines that nobody talks on, and tells of the one that ended last.
    async fn end_unanswered(
        &mut self,
        lines: Vec<Line>,
        rung: Duration,
        caller_left: bool,
        answered: bool,
    ) -> Ended {
        let mut last = Ended {
            status: LegStatus::NoAnswer,
            sid: String::new(),
            is_sip: false,
            talked: None,
            caller_left,
        };
        let mut latest = Duration::ZERO;
        for line in lines {
            let by_itself = match line.ring {
                Ring::Ends { after, status } => Some(status).filter(|_| after <= rung),
                Ring::Answers { .. } | Ring::CallerLeaves { .. } => None,
            };
            let status = by_itself.unwrap_or(if answered {
                LegStatus::Canceled
            } else {
                LegStatus::NoAnswer
            });
            if line.ring.time() >= latest {
                latest = line.ring.time();
                last.status = status;
                line.sid.clone_into(&mut last.sid);
                last.is_sip = line.is_sip;
            }
            self.close(line, status, Duration::ZERO).await;
        }
        last
    }

    async fn talk(&mut self, mut line: Line, longest: Duration) -> Ended {
        let (talk, caller_left) = match line.ring {
            Ring::Answers {
                talk, caller_ends, ..
            } => (talk.min(longest), caller_ends && talk <= longest),
            Ring::Ends { .. } | Ring::CallerLeaves { .. } => (Duration::ZERO, false),
        };
        self.answer();
        self.heard(Heard::Talk(line.address.clone()));
        self.talked_to = Some(line.address.clone());
        self.twilio
            .state()
            .ledger
            .set_status(&line.sid, "in-progress");
        self.report(&mut line, "answered", "in-progress", None)
            .await;
        self.pass(talk).await;
        let ended = Ended {
            status: LegStatus::Completed,
            sid: line.sid.clone(),
            is_sip: line.is_sip,
            talked: Some(talk),
            caller_left,
        };
        self.close(line, LegStatus::Completed, talk).await;
        ended
    }

    /// The action URL, or the next verb.
    async fn after(&mut self, dial: &Element, ended: Option<Ended>) -> Next {
        let caller_left = ended.as_ref().is_some_and(|ended| ended.caller_left);
        let Some(action) = dial.attribute("action") else {
            return if caller_left {
                Next::End(Outcome::CallerHungUp)
            } else {
                Next::Verb
            };
        };
        if caller_left && !self.settings.action_after_hang_up {
            return Next::End(Outcome::CallerHungUp);
        }
        let extra = outcome_fields(ended.as_ref());
        if caller_left {
            self.request_in_vain(action, extra).await
        } else {
            self.request(action, "in-progress", extra).await
        }
    }

    /// The caller has gone: the action is requested all the same, and nothing of its answer is executed.
    async fn request_in_vain(&mut self, action: &str, extra: Fields) -> Next {
        let webhook = self.follow_up(action, "completed", extra);
        let reply = self.twilio.send(&self.settings, &webhook).await;
        let path = reply.exchange.path.clone();
        if let Ok(document) = self.read(reply)
            && document.verbs.iter().any(|verb| verb.name == "Dial")
        {
            let text = format!("{path}: a <Dial> for a caller who has hung up");
            self.result.violations.push(text);
        }
        Next::End(Outcome::CallerHungUp)
    }

    fn open(&mut self, line: &Line) {
        let entry = Entry {
            parent: Some(self.result.call_sid.clone()),
            from: line.caller_id.clone(),
            to: line.address.clone(),
            direction: "outbound-dial",
            status: "ringing",
            duration_s: None,
            started_at: Timestamp::now(),
            ended_at: None,
        };
        self.twilio.state().ledger.open(&line.sid, entry);
    }

    async fn close(&mut self, mut line: Line, status: LegStatus, talked: Duration) {
        let word = status.as_str();
        self.twilio
            .state()
            .ledger
            .close(&line.sid, word, talked.as_secs());
        self.report(&mut line, "completed", word, Some((status, talked)))
            .await;
        self.result.dialled.push(DialledLeg {
            call_sid: line.sid,
            address: line.address,
            caller_id: line.caller_id,
            sip_headers: line.headers,
            status,
            talked,
        });
    }

    /// A status callback of a dialled line, where its event was asked for.
    async fn report(
        &mut self,
        line: &mut Line,
        event: &str,
        status: &str,
        end: Option<(LegStatus, Duration)>,
    ) {
        let Some(url) = line.callback_url.clone() else {
            return;
        };
        if !line.events.iter().any(|wanted| wanted == event) {
            return;
        }
        let mut fields = fields::of_leg(&Leg {
            sid: &line.sid,
            account_sid: &self.settings.account_sid,
            from: &line.caller_id,
            to: &line.address,
            direction: "outbound-dial",
            status,
        });
        fields::push(&mut fields, "ParentCallSid", &self.result.call_sid);
        fields::push(&mut fields, "SequenceNumber", &line.n_sent.to_string());
        match end {
            Some((status, talked)) => {
                add_end_of_leg(&mut fields, talked);
                fields::push(&mut fields, "SipResponseCode", status.sip_code());
            }
            None => add_event(&mut fields),
        }
        line.n_sent += 1;
        self.callbacks
            .send(url, fields, &mut self.chance, &mut self.result)
            .await;
    }
}

/// The times that a `<Dial>` allows.
#[derive(Clone, Copy)]
struct Limits {
    ring: Duration,
    talk: Duration,
}

impl Limits {
    fn of(dial: &Element) -> Self {
        let seconds = |name: &str, default: u64| {
            let told = dial.attribute(name).and_then(|text| text.parse().ok());
            Duration::from_secs(told.unwrap_or(default))
        };
        Self {
            ring: seconds("timeout", DEFAULT_TIMEOUT_S) + RING_BUFFER,
            talk: seconds("timeLimit", DEFAULT_TIME_LIMIT_S),
        }
    }
}

impl Ring {
    fn time(self) -> Duration {
        match self {
            Self::Answers { after, .. }
            | Self::Ends { after, .. }
            | Self::CallerLeaves { after } => after,
        }
    }
}

fn drawn(behaviour: &LineBehaviour, longest: Duration, chance: &mut Chance) -> Ring {
    let answers = |after: Duration, talk: Duration, caller_ends: bool| {
        if after <= longest {
            Ring::Answers {
                after,
                talk,
                caller_ends,
            }
        } else {
            ends(longest, LegStatus::NoAnswer)
        }
    };
    match behaviour {
        LineBehaviour::Answer { after, talk } => answers(*after, *talk, false),
        LineBehaviour::AnswerThenCallerHangsUp { after, talk } => answers(*after, *talk, true),
        LineBehaviour::Busy => ends(Duration::from_secs(1), LegStatus::Busy),
        LineBehaviour::Failed => ends(Duration::from_millis(500), LegStatus::Failed),
        LineBehaviour::CallerHangsUpRinging { after } if *after <= longest => {
            Ring::CallerLeaves { after: *after }
        }
        LineBehaviour::NoAnswer | LineBehaviour::CallerHangsUpRinging { .. } => {
            ends(longest, LegStatus::NoAnswer)
        }
        LineBehaviour::Varied { ring, talk } => {
            let after = chance.between(ring.0, ring.1);
            let talk = chance.between(talk.0, talk.1);
            answers(after, talk, chance.happens(0.5))
        }
        LineBehaviour::OneOf(choices) => {
            let total: f64 = choices.iter().map(|(weight, _)| weight.max(0.0)).sum();
            let mut drawn_at = chance.fraction() * total;
            let chosen = choices.iter().find(|(weight, _)| {
                drawn_at -= weight.max(0.0);
                drawn_at < 0.0
            });
            match chosen.or(choices.last()) {
                Some((_, behaviour)) => drawn(behaviour, longest, chance),
                None => ends(longest, LegStatus::NoAnswer),
            }
        }
    }
}

fn ends(after: Duration, status: LegStatus) -> Ring {
    Ring::Ends { after, status }
}

fn outcome_fields(ended: Option<&Ended>) -> Fields {
    let mut fields = Fields::new();
    let Some(ended) = ended else {
        fields::push(&mut fields, "DialCallStatus", LegStatus::Failed.as_str());
        return fields;
    };
    fields::push(&mut fields, "DialCallStatus", ended.status.as_str());
    fields::push(&mut fields, "DialCallSid", &ended.sid);
    if let Some(talked) = ended.talked {
        let seconds = talked.as_secs();
        fields::push(&mut fields, "DialCallDuration", &seconds.to_string());
    }
    let bridged = if ended.talked.is_some() {
        "true"
    } else {
        "false"
    };
    fields::push(&mut fields, "DialBridged", bridged);
    if ended.is_sip {
        let code = ended.status.sip_code();
        fields::push(&mut fields, "DialSipResponseCode", code);
        let id = format!("{}@0.0.0.0", ended.sid);
        fields::push(&mut fields, "DialSipCallId", &id);
    }
    fields
}
