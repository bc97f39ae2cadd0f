//! What a visitor can break, from the start or while it runs.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use switchboard_simulator::World;
use switchboard_simulator::faults::Fault;
use switchboard_simulator::smtp::{SmtpFault, Stage};

const SLOW: Duration = Duration::from_secs(10);

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub(super) enum OpenFault {
    /// Braze answers after 10 s
    BrazeSlow,
    /// Braze refuses connections
    BrazeDown,
    /// Dialfire answers 500
    DialfireDown,
    /// Dialfire never answers
    DialfireHangs,
    /// Zendesk Talk answers 500
    ZendeskDown,
    /// Both dialers answer 500
    BothDown,
    /// The mail server never answers
    MailHangs,
}

const MAILS_SHOWN: usize = 20;

/// The switches of the dashboard, in their order: the fault, its label, what it does.
const SWITCHES: [(OpenFault, &str, &str); 6] = {
    use OpenFault::{BothDown, BrazeDown, BrazeSlow, DialfireDown, MailHangs, ZendeskDown};
    [
        (BrazeSlow, "Braze slow", "Braze answers after 10 s"),
        (BrazeDown, "Braze down", "Braze refuses connections"),
        (DialfireDown, "Dialfire down", "Dialfire answers 500"),
        (ZendeskDown, "Zendesk down", "Zendesk Talk answers 500"),
        (
            BothDown,
            "Both dialers down",
            "Dialfire and Zendesk Talk answer 500",
        ),
        (
            MailHangs,
            "Mail server hangs",
            "The mail server never answers",
        ),
    ]
};

/// What is broken now. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Switches {
    world: World,
    open: Arc<Mutex<BTreeSet<OpenFault>>>,
}

#[derive(Debug, Serialize)]
struct SwitchDocument {
    name: OpenFault,
    label: &'static str,
    about: &'static str,
    open: bool,
}

#[derive(Debug, Deserialize)]
struct Wanted {
    name: OpenFault,
    open: bool,
}

impl Switches {
    pub(super) fn new(world: World) -> Self {
        Self {
            world,
            open: Arc::default(),
        }
    }

    /// Breaks one thing, or makes it well again.
    pub(super) fn set(&self, fault: OpenFault, open: bool) {
        let mut set = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for part in parts(&fault) {
            if open {
                set.insert(*part);
            } else {
                set.remove(part);
            }
        }
        let braze = self.world.braze.faults();
        braze.clear();
        let dialfire = self.world.dialfire.faults();
        dialfire.clear();
        let zendesk = self.world.zendesk.faults();
        zendesk.clear();
        self.world.smtp.clear();
        for fault in &*set {
            match fault {
                OpenFault::BrazeSlow => braze.standing(Fault::Delay(SLOW)),
                OpenFault::BrazeDown => braze.standing(Fault::RefuseConnections),
                OpenFault::DialfireDown => dialfire.standing(Fault::status(500)),
                OpenFault::DialfireHangs => dialfire.standing(Fault::Hang),
                OpenFault::ZendeskDown => zendesk.standing(Fault::status(500)),
                OpenFault::BothDown => {}
                OpenFault::MailHangs => self.world.smtp.standing(SmtpFault::Hang(Stage::Connect)),
            }
        }
    }

    fn shown(&self) -> Vec<SwitchDocument> {
        let set = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = SWITCHES
            .into_iter()
            .map(|(name, label, about)| SwitchDocument {
                name,
                label,
                about,
                open: parts(&name).iter().all(|part| set.contains(part)),
            });
        shown.collect()
    }

    /// `/demo/faults`: what can be broken and is; breaks one thing. `/demo/mails`: the text of the mails that were sent.
    pub(super) fn routes(self) -> Router {
        Router::new()
            .route("/demo/faults", get(shown).post(switch))
            .route("/demo/mails", get(mails))
            .with_state(self)
    }
}

/// The single faults that a fault consists of.
fn parts(fault: &OpenFault) -> &[OpenFault] {
    match fault {
        OpenFault::BothDown => &[OpenFault::DialfireDown, OpenFault::ZendeskDown],
        OpenFault::BrazeSlow
        | OpenFault::BrazeDown
        | OpenFault::DialfireDown
        | OpenFault::DialfireHangs
        | OpenFault::ZendeskDown
        | OpenFault::MailHangs => std::slice::from_ref(fault),
    }
}

fn answer(switches: &Switches) -> Response {
    Json(serde_json::json!({ "data": switches.shown() })).into_response()
}

async fn shown(State(switches): State<Switches>) -> Response {
    answer(&switches)
}

/// The newest mails, as their receivers read them.
async fn mails(State(switches): State<Switches>) -> Response {
    let mails = switches
        .world
        .smtp
        .messages()
        .into_iter()
        .rev()
        .take(MAILS_SHOWN);
    let texts: Vec<String> = mails.map(|mail| mail.parts().join("\n")).collect();
    Json(serde_json::json!({ "data": texts })).into_response()
}

/// JSON only: a form of another site cannot send that here.
async fn switch(
    State(switches): State<Switches>,
    wanted: Result<Json<Wanted>, axum::extract::rejection::JsonRejection>,
) -> Response {
    match wanted {
        Ok(Json(Wanted { name, open })) => {
            switches.set(name, open);
            answer(&switches)
        }
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(switches: &Switches) -> Vec<&'static str> {
        let shown = switches.shown().into_iter();
        shown.filter(|one| one.open).map(|one| one.label).collect()
    }

    #[tokio::test]
    async fn both_dialers_are_down_exactly_when_each_of_them_is() {
        let (world, _serve) = World::bind(1).unwrap();
        let switches = Switches::new(world);
        switches.set(OpenFault::DialfireDown, true);
        assert_eq!(open(&switches), ["Dialfire down"]);
        switches.set(OpenFault::ZendeskDown, true);
        assert_eq!(
            open(&switches),
            ["Dialfire down", "Zendesk down", "Both dialers down"]
        );
        switches.set(OpenFault::BothDown, false);
        assert!(open(&switches).is_empty());
        switches.set(OpenFault::MailHangs, true);
        switches.set(OpenFault::BothDown, true);
        assert_eq!(open(&switches).len(), 4);
    }
}
