//! What a drill needs of the outside: everything that can fail, as a list, and people who call while it does.

use std::io;
use std::time::Duration;

use futures_util::future::join_all;

use super::any_dialer::{AnyDialer, Serving};
use super::braze::Profile;
use super::faults::Fault;
use super::smtp::SmtpFault;
use super::twilio::{Call, CallResult, Disorder, LineBehaviour, Outcome, Settings, Twilio};
use super::world::{World, made_up};

/// Longer than any service is waited for.
const SLOW: Duration = Duration::from_secs(12);
/// How long people wait, in phone time.
const PATIENCE: Duration = Duration::from_hours(2);
/// Calls at the same moment, of a burst; webhooks that are forged.
const MANY: usize = 40;
/// A service that was asked less often cannot have been found out.
const ENOUGH: u64 = 5;

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Breaks {
    Nothing,
    Braze(Fault),
    /// The dialer at this place.
    Dialer(usize, Fault),
    /// Its line is always busy.
    Line(usize),
    AllDialers,
    /// All dialers are down, and the mail server with them.
    MailServer,
    /// Somebody else holds the database for writing: no stand-in does that.
    Database,
    /// Many people call at the same moment.
    Burst,
    /// Strangers send webhooks that are not signed by Twilio.
    Forgeries,
    /// Twilio's status callbacks never come.
    Callbacks,
}

impl Breaks {
    /// The whole matrix with a name for each, nothing first.
    pub fn all(dialers: &[String]) -> Vec<(String, Self)> {
        let braze = |name: &str, fault| (format!("braze_{name}"), Self::Braze(fault));
        let mut all = vec![
            ("nothing".to_owned(), Self::Nothing),
            braze("hangs", Fault::Hang),
            braze("500", Fault::status(500)),
            braze("429", Fault::too_many_requests(Some(30))),
            braze("401", Fault::status(401)),
        ];
        for (idx, dialer) in dialers.iter().enumerate() {
            let failing = |how: &str, fault| (format!("{dialer}_{how}"), Self::Dialer(idx, fault));
            all.extend([
                failing("down", Fault::status(503)),
                failing("slow", Fault::Delay(SLOW)),
                failing("refuses_credentials", Fault::status(401)),
                (format!("{dialer}_busy"), Self::Line(idx)),
            ]);
        }
        let named = [
            ("all_dialers_down", Self::AllDialers),
            ("mail_server_down", Self::MailServer),
            ("database_locked", Self::Database),
            ("callbacks_lost", Self::Callbacks),
            ("forged_webhooks", Self::Forgeries),
            ("burst", Self::Burst),
        ];
        all.extend(named.map(|(name, breaks)| (name.to_owned(), breaks)));
        all
    }
}

/// Somebody who calls, as Braze knows them.
#[derive(Clone, Debug)]
pub struct DrillCaller {
    pub from: String,
    pub to: String,
    pub profile: Option<Profile>,
}

/// Everything outside of one drill.
#[derive(Clone, Debug)]
pub struct Outside {
    pub world: World,
    /// Each with what Twilio dials to reach its line.
    pub dialers: Vec<(AnyDialer, String)>,
}

impl Outside {
    /// Everything but the dialers is bound to free ports of the loopback address; the future serves all of it.
    pub fn bind(dialers: Vec<(AnyDialer, Serving, String)>) -> io::Result<(Self, Serving)> {
        let (world, serve) = World::bind(1)?;
        let mut serving: Vec<Serving> = vec![Box::pin(serve)];
        let mut bound = Vec::new();
        for (dialer, serve, line) in dialers {
            serving.push(serve);
            bound.push((dialer, line));
        }
        let serve = async move {
            join_all(serving).await;
        };
        let outside = Self {
            world,
            dialers: bound,
        };
        Ok((outside, Box::pin(serve)))
    }

    /// Breaks it.
    pub fn begin(&self, breaks: &Breaks) {
        let twilio = &self.world.twilio;
        match breaks {
            Breaks::Braze(fault) => self.world.braze.faults().standing(fault.clone()),
            Breaks::Dialer(idx, fault) => {
                if let Some((dialer, _)) = self.dialers.get(*idx) {
                    dialer.faults().standing(fault.clone());
                }
            }
            Breaks::Line(idx) => {
                if let Some((_, line)) = self.dialers.get(*idx) {
                    twilio.set_line(line, LineBehaviour::Busy);
                }
            }
            Breaks::AllDialers | Breaks::MailServer => {
                for (dialer, _) in &self.dialers {
                    dialer.faults().standing(Fault::RefuseConnections);
                }
                if *breaks == Breaks::MailServer {
                    self.world.smtp.standing(SmtpFault::RefuseConnections);
                }
            }
            Breaks::Callbacks => twilio.configure(|settings| settings.disorder.lose = 1.0),
            Breaks::Nothing | Breaks::Database | Breaks::Burst | Breaks::Forgeries => {}
        }
    }

    /// Everybody is well again, and every line is answered.
    pub fn repair(&self) {
        self.world.clear_faults();
        let twilio = &self.world.twilio;
        twilio.configure(|settings| settings.disorder = Disorder::default());
        for (dialer, line) in &self.dialers {
            dialer.faults().clear();
            twilio.set_line(line, LineBehaviour::answer(Duration::from_secs(20)));
        }
    }

    /// Whether what is broken was asked often enough to be found out.
    pub fn is_met(&self, breaks: &Breaks) -> bool {
        match breaks {
            Breaks::Braze(_) => self.world.braze.requests().count() > 0,
            Breaks::Dialer(idx, _) => {
                let dialer = self.dialers.get(*idx);
                dialer.is_some_and(|(dialer, _)| dialer.requests().count() >= ENOUGH)
            }
            Breaks::Nothing
            | Breaks::Line(_)
            | Breaks::AllDialers
            | Breaks::MailServer
            | Breaks::Database
            | Breaks::Burst
            | Breaks::Forgeries
            | Breaks::Callbacks => true,
        }
    }

    /// Everybody calls twice, one after another; in a burst, many at once.
    pub async fn calls(&self, breaks: &Breaks, callers: &[DrillCaller]) -> Vec<CallResult> {
        let twilio = &self.world.twilio;
        if *breaks == Breaks::Forgeries {
            forge(twilio).await;
        }
        if *breaks == Breaks::Burst {
            // Time that one caller skips would be lost to the others.
            let late_ms = twilio.settings().late_ms;
            twilio.configure(|settings| (settings.late_ms, settings.time_scale) = (None, 0.005));
            let many = callers.iter().cycle().take(MANY.max(callers.len()));
            let calls = join_all(many.map(|caller| self.call(caller))).await;
            twilio.configure(|settings| (settings.late_ms, settings.time_scale) = (late_ms, 0.0));
            return calls;
        }
        let mut calls = Vec::new();
        for caller in callers.iter().chain(callers) {
            calls.push(self.call(caller).await);
        }
        calls
    }

    /// Somebody calls, and waits as long as it takes.
    pub async fn call(&self, caller: &DrillCaller) -> CallResult {
        let call = Call::new(&caller.from, &caller.to).patience(PATIENCE);
        self.world.twilio.call(call).await
    }
}

/// Webhooks of somebody who does not know the token.
async fn forge(twilio: &Twilio) {
    let known = twilio.settings();
    let settings = Settings::new(
        &known.webhook_base,
        &known.public_url,
        &known.account_sid,
        "a stranger's",
    );
    let Ok((stranger, _)) = Twilio::bind("127.0.0.1:0", settings, 2) else {
        return;
    };
    let forged = (0..MANY).map(|_| async {
        let call = stranger.new_sid("CA");
        let fields = stranger.inbound_fields(&call, "+4915100000099", made_up::CALLED);
        // Whatever the answer is.
        drop(stranger.post("/webhooks/twilio", &fields).await);
    });
    join_all(forged).await;
}

/// Whom the caller reached in the end, or what was heard last, in words. `lines` and `texts` say what addresses and texts are called.
pub fn heard(call: &CallResult, lines: &[(String, String)], texts: &[(&str, &str)]) -> String {
    let what = match &call.outcome {
        Outcome::Talked { address } => {
            let line = lines.iter().find(|(line, _)| line == address);
            line.map_or(address.as_str(), |(_, name)| name)
        }
        Outcome::ErrorMessage => "Twilio's error message",
        Outcome::CallerHungUp | Outcome::Endless => "hold without an end",
        Outcome::Rejected => "the refusal of a rule",
        Outcome::HungUp => {
            let said = |text: &str| call.heard.iter().any(|heard| heard == text.trim());
            let known = texts.iter().find(|(text, _)| said(text));
            known.map_or("a message", |(_, name)| name)
        }
    };
    if call.steps_to("/webhooks/twilio/hold").is_empty() {
        what.to_owned()
    } else {
        format!("hold, then {what}")
    }
}
