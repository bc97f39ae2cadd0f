//! The straight lines of a call, and the only place where two clients meet.
//!
//! A telephony webhook is these steps in this order: lock → gather → decide → hand off → record → answer. Later webhooks skip some. Each
//! step gets only what the one before returned, and nothing goes back.

mod adopt;
mod answering;
mod api_document;
mod call_answer;
mod calls_api;
mod canary;
mod completeness;
mod dial_ended;
mod dialer_loads;
mod draft;
mod drafts;
mod drains;
mod fact_source;
mod fresh_scores;
mod hand_off;
mod handoff_result;
mod hold;
mod inbound;
mod inbound_call;
mod lists;
mod live_calls;
mod locks;
mod made_keys;
mod missed;
mod missed_calls;
mod policy;
mod reconcile;
mod record;
mod reloads;
mod retries;
mod status;
mod stopwatch;
mod supposed;
mod waiting;
mod why_not;

pub use answering::Calls;
pub use calls_api::{ApiAnswer, ApiCall, EndReported, Unroutable};
pub use canary::{BEAT_EVERY, Canary, SelfCheck};
pub use completeness::{Completeness, CompletenessReport, NotCompared, SETTLED};
pub use dialer_loads::DialerLoads;
pub use draft::{Draft, DraftCounts};
pub use drafts::Drafts;
pub use drains::{Drains, TakeOut};
pub use fresh_scores::FreshScores;
pub(crate) use handoff_result::{HandoffResult, HandoffTarget};
pub use inbound::Inbound;
pub use lists::{ListDocument, ListEntries, ListEntryDocument, ListError, NewListEntry};
pub use locks::IdempotencyLocks;
pub use made_keys::{KeyDocument, MadeKeys};
pub use missed_calls::MissedCalls;
pub use policy::{Policies, Policy};
pub use reconcile::{Reconciled, Reconciliation};
pub(crate) use record::Recorded;
pub use record::Recorder;
pub use reloads::{
    Applied, ConfigRequest, NewRules, NotApplied, Publication, RefusedReload, ReloadProblem,
    ReloadRequest, Reloads,
};
pub use retries::{Retries, record_health};
pub use supposed::{SupposedCall, SupposedFacts};
pub use waiting::Waiting;
pub(crate) use why_not::{Ails, ails};

#[cfg(test)]
pub(crate) use live_calls::tests::call as stored_call;
