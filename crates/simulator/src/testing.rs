//! What the stand-ins' own tests share.

use std::future::Future;

use tokio::task::JoinSet;

/// Runs a service for as long as the returned set lives.
pub(super) fn in_background(server: impl Future<Output = ()> + Send + 'static) -> JoinSet<()> {
    let mut running = JoinSet::new();
    running.spawn(server);
    running
}

/// A plain client: no proxy, no redirects.
pub(super) fn client() -> reqwest::Client {
    super::client::connecting_within(super::client::CONNECT_LIMIT)
        .expect("a client without TLS needs nothing that could be missing")
}
