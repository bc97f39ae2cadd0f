//! Every adapter against stand-ins on real sockets.

mod dialfire;
mod faults;
mod fleet;
mod health;
mod http;
mod zendesk_talk;
