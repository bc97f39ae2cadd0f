//! What a call sounds like: typed TwiML verbs, and the one writer that turns them into XML.

mod connect;

pub use connect::{Connect, NotConnect};
