//! What a visitor can break from the start.

use std::time::Duration;

use crate::simulator::World;
use crate::simulator::faults::Fault;

/// Longer than any budget.
const SLOW: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
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
}

impl OpenFault {
    pub(super) fn open(self, world: &World) {
        let failing = || Fault::status(500);
        match self {
            Self::BrazeSlow => world.braze.faults().standing(Fault::Delay(SLOW)),
            Self::BrazeDown => world.braze.faults().standing(Fault::RefuseConnections),
            Self::DialfireDown => world.dialfire.faults().standing(failing()),
            Self::DialfireHangs => world.dialfire.faults().standing(Fault::Hang),
            Self::ZendeskDown => world.zendesk.faults().standing(failing()),
            Self::BothDown => {
                world.dialfire.faults().standing(failing());
                world.zendesk.faults().standing(failing());
            }
        }
    }
}
