//! What a call sounds like: typed `TwiML` verbs, and the one writer that turns them into XML.
//!
//! [`answer`] has one function per answer of the product; [`CallbackUrls`] builds the URLs that an answer names. Elsewhere nothing writes
//! `TwiML`.

pub mod answer;
mod connect;
mod urls;
mod verb;
mod write;

pub use connect::{Connect, NotConnect};
pub use urls::{CallbackUrls, OVERRIDES};
pub use verb::{Dial, Noun, Pause, Redirect, Say, SipUri, Verb, VoiceResponse};
