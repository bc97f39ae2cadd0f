//! Twilio's side of the wire: who signed a webhook, and what it says.
//!
//! A webhook becomes an event in three steps, each with its own file: [`SignedWebhook`] admits it (source, size, [signature](Verifier)),
//! [`Form`] reads its fields as bytes, and one of the event types says what happened. What is behind this module sees neither headers
//! nor fields. The other way round, [`Rest`] asks what became of a call.

mod altered;
mod body;
mod call_list;
mod diagnose;
mod edge;
mod event;
mod extract;
mod form;
mod numbers;
mod pasted;
mod rest;
mod signature;
mod signed_url;
mod structure;
#[cfg(test)]
mod tests;

pub use body::{BodyError, collect};
pub use diagnose::{Deviation, Diagnosis, Hosts};
pub use edge::{Edge, EdgeSettings, RefusalReason, RefusedWebhook};
pub use event::{DialEnded, FallbackCall, HeldCall, StatusReport};
pub use extract::{
    BODY_LIMIT, BODY_TIMEOUT, Malformed, SIGNATURE, SignedWebhook, SourceAddress, WebhookRefusal,
};
pub use form::Form;
pub use numbers::{NumberFault, NumberSettings};
pub use pasted::Pasted;
pub use rest::{CannotAsk, Credentials, NoAnswer, Rest, RestSettings, UnusableBase};
pub use signature::{
    KeyUsed, SharedKey, SignatureError, SignedRequest, UnusableSettings, Verifier, VerifierSettings,
};
pub use structure::Flaw;
