//! What the demo adds to the pages: routes of its own, and a link that opens the dashboard once.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;

use crate::secret::Secret;

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
pub struct OneTimeLink(Arc<Mutex<Option<(Secret, Secret)>>>);

impl OneTimeLink {
    pub fn new(secret: String, key: String) -> Self {
        let pair = (Secret::new(secret), Secret::new(key));
        Self(Arc::new(Mutex::new(Some(pair))))
    }

    pub(super) fn exchange(&self, secret: &str) -> Option<String> {
        let secret = Secret::new(secret);
        let mut pair = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, key) = pair.take_if(|(known, _)| *known == secret)?;
        Some(key.expose().to_owned())
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
