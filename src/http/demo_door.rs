//! What the demo adds to the pages: routes of its own, and a link that opens the dashboard once.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use subtle::ConstantTimeEq;

/// What the demo adds to the pages.
#[derive(Clone, Debug)]
pub struct DemoDoor {
    /// Routes of its own, for admins.
    pub routes: Router,
    /// The link that opens the dashboard once.
    pub link: OneTimeLink,
}

/// A secret that stands for a key, once. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OneTimeLink(Arc<Mutex<Option<Exchanged>>>);

struct Exchanged {
    secret: String,
    key: String,
}

impl std::fmt::Debug for Exchanged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exchanged(…)")
    }
}

impl OneTimeLink {
    pub fn new(secret: String, key: String) -> Self {
        Self(Arc::new(Mutex::new(Some(Exchanged { secret, key }))))
    }

    pub(super) fn exchange(&self, secret: &str) -> Option<String> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = kept
            .as_ref()
            .is_some_and(|kept| kept.secret.as_bytes().ct_eq(secret.as_bytes()).into());
        is_it.then(|| kept.take()).flatten().map(|kept| kept.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_opens_once_and_for_its_secret_alone() {
        let link = OneTimeLink::new("secret".to_owned(), "swb_key".to_owned());
        assert_eq!(link.exchange("other"), None);
        assert_eq!(link.exchange("secret").as_deref(), Some("swb_key"));
        assert_eq!(link.exchange("secret"), None);
    }
}
