//! A phone call as it is ordered from the simulated Twilio, and what became of it.

use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::story::Moment;

#[derive(Clone, Debug)]
pub struct Call {
    /// `From`: a number, a word such as `anonymous`, a SIP address.
    pub from: String,
    /// The number that is called.
    pub to: String,
    /// What the lines do that are dialled for this call, one after another. When used up, or empty, the lines behave as
    /// [`super::Twilio::set_line`] says.
    pub lines: Vec<LineBehaviour>,
    /// How long the caller waits to be connected before hanging up, in phone time.
    pub patience: Duration,
    /// Once it is cancelled, the caller hangs up wherever the call stands, and no time passes any more.
    pub hang_up: CancellationToken,
    /// Whether the first webhook comes twice.
    pub duplicate: Duplicate,
    /// The call's id, where a test wants to know it beforehand.
    pub call_sid: Option<String>,
}

impl Call {
    /// A patient caller; the lines behave as they always do.
    pub fn new(from: &str, to: &str) -> Self {
        Self {
            from: from.to_owned(),
            to: to.to_owned(),
            lines: Vec::new(),
            patience: Duration::from_mins(10),
            hang_up: CancellationToken::new(),
            duplicate: Duplicate::Never,
            call_sid: None,
        }
    }

    /// With these lines, one per dialled address.
    #[must_use]
    pub fn lines(mut self, lines: impl IntoIterator<Item = LineBehaviour>) -> Self {
        self.lines = lines.into_iter().collect();
        self
    }

    /// With a caller who gives up after so long.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// With a caller who hangs up once this is cancelled.
    #[must_use]
    pub fn until(mut self, hang_up: CancellationToken) -> Self {
        self.hang_up = hang_up;
        self
    }

    /// With the first webhook twice.
    #[must_use]
    pub fn duplicate(mut self, duplicate: Duplicate) -> Self {
        self.duplicate = duplicate;
        self
    }

    #[must_use]
    pub fn call_sid(mut self, call_sid: &str) -> Self {
        self.call_sid = Some(call_sid.to_owned());
        self
    }
}

/// When the first webhook comes a second time, with the same idempotency token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Duplicate {
    #[default]
    Never,
    /// Both are on their way together.
    AtOnce,
    /// As soon as the first is answered.
    AfterAnswer,
    /// When the call is over.
    AfterEnd,
}

/// What a dialled line does.
#[derive(Clone, Debug, PartialEq)]
pub enum LineBehaviour {
    /// Rings, answers, talks; then the line hangs up.
    Answer {
        after: Duration,
        talk: Duration,
    },
    /// As `Answer`, but the caller hangs up.
    AnswerThenCallerHangsUp {
        after: Duration,
        talk: Duration,
    },
    Busy,
    /// Rings until the dial's timeout is over.
    NoAnswer,
    Failed,
    /// The caller hangs up while it rings.
    CallerHangsUpRinging {
        /// How long it had rung.
        after: Duration,
    },
    /// Rings and talks for times between these, drawn anew for each call.
    Varied {
        ring: (Duration, Duration),
        talk: (Duration, Duration),
    },
    /// One of these, by weight.
    OneOf(Vec<(f64, LineBehaviour)>),
}

impl LineBehaviour {
    /// Rings for 4 s and talks for so long.
    pub fn answer(talk: Duration) -> Self {
        Self::Answer {
            after: Duration::from_secs(4),
            talk,
        }
    }
}

/// How a leg ended, as Twilio says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegStatus {
    Completed,
    Busy,
    NoAnswer,
    Failed,
    Canceled,
}

impl LegStatus {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Busy => "busy",
            Self::NoAnswer => "no-answer",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    pub(super) fn sip_code(self) -> &'static str {
        match self {
            Self::Completed => "200",
            Self::Busy => "486",
            Self::NoAnswer | Self::Canceled => "487",
            Self::Failed => "503",
        }
    }
}

/// All that happened in one call.
#[derive(Clone, Debug)]
pub struct CallResult {
    /// The id of the caller's leg.
    pub call_sid: String,
    /// The webhooks in the order in which they were answered.
    pub steps: Vec<WebhookExchange>,
    /// The lines that were dialled, in order.
    pub dialled: Vec<DialledLeg>,
    /// What the caller heard: texts spoken, and the addresses of sounds played.
    pub heard: Vec<String>,
    /// The whole of it in order: each URL that was asked, and what the caller heard of its answer.
    pub story: Vec<Moment>,
    pub outcome: Outcome,
    /// What Twilio would have warned about or refused, with its error code, and answers that broke a rule.
    pub violations: Vec<String>,
    /// How long the first webhook took.
    pub first_answer: Duration,
    /// How long the call took in phone time: waiting, ringing, talking.
    pub phone_time: Duration,
}

impl CallResult {
    /// The webhooks to this path (without its query).
    pub fn steps_to(&self, path: &str) -> Vec<&WebhookExchange> {
        self.steps
            .iter()
            .filter(|step| step.path.split('?').next() == Some(path))
            .collect()
    }
}

/// One webhook and its answer.
#[derive(Clone, Debug)]
pub struct WebhookExchange {
    /// Path and query, as sent; the whole URL where it does not lie under the public URL.
    pub path: String,
    /// When it was sent first.
    pub at: Timestamp,
    pub fields: Vec<(String, String)>,
    /// The status of the last attempt; none where no answer came.
    pub status: Option<u16>,
    /// The body of the last attempt.
    pub body: String,
    /// From the first attempt to the last answer.
    pub elapsed: Duration,
    /// How often it was sent.
    pub attempts: u32,
    /// Why attempts failed, the last one included where it did, each with Twilio's error code.
    pub failed: Vec<String>,
    /// Why it failed, with Twilio's error code.
    pub error: Option<String>,
}

impl WebhookExchange {
    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find_map(|(key, value)| (key == name).then_some(value.as_str()))
    }
}

/// A line that was dialled.
#[derive(Clone, Debug)]
pub struct DialledLeg {
    /// The id of this leg.
    pub call_sid: String,
    /// The number, or the SIP address without its headers.
    pub address: String,
    /// The number that the line was shown.
    pub caller_id: String,
    /// Headers in the query of a SIP address, decoded.
    pub sip_headers: Vec<(String, String)>,
    pub status: LegStatus,
    pub talked: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The caller talked to this line.
    Talked {
        /// The number or SIP address.
        address: String,
    },
    /// The caller gave up before being connected.
    CallerHungUp,
    /// Ended by the answers of the webhooks, without a talk.
    HungUp,
    Rejected,
    /// The caller heard Twilio's "an application error has occurred".
    ErrorMessage,
    /// One document led to the next without end.
    Endless,
}
