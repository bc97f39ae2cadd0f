//! Where the answers to what rules ask by name come from, for a call that arrives.

use std::sync::Arc;

use jiff::Timestamp;

use super::locks::IdempotencyLocks;
use crate::call::InboundCall;
use crate::phone::Caller;
use crate::routing::{CallSource, Lists};

/// How many places callers are divided among.
const PLACES: u8 = 100;

pub(super) struct FactSource<'a> {
    pub(super) call: &'a InboundCall,
    pub(super) locks: &'a IdempotencyLocks,
    pub(super) lists: &'a Lists,
    /// When it arrives.
    pub(super) at: Timestamp,
}

impl CallSource for FactSource<'_> {
    fn caller(&self) -> &Caller {
        &self.call.caller
    }

    fn called(&self) -> Option<&str> {
        self.call.called.as_deref()
    }

    fn lists(&self) -> Vec<Arc<str>> {
        self.lists.of(&self.call.caller, self.at)
    }

    /// Callers who hide who they are have a place by lot, another one with each call.
    fn bucket(&self, name: &str) -> u8 {
        let hash = self.locks.hash_of(&self.call.caller, name);
        let place = hash.unwrap_or_else(|| self.draw()) % u32::from(PLACES);
        u8::try_from(place).unwrap_or_default()
    }

    /// A source of chance that fails draws 0: the first by name, as a rule without weights would.
    fn draw(&self) -> u32 {
        getrandom::u32().unwrap_or_default()
    }
}
