//! API keys that are made and revoked while the process runs, and when keys were last used.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use utoipa::ToSchema;

use crate::audit::{Event, KeyAction, KeyChanged, Record, Role};
use crate::clock::Clock;
use crate::store::{Store, StoreError, StoredApiKey};

/// Keys that are made here, at most; each is compared with what is sent.
const MOST: usize = 200;

/// A key, without the key itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ApiKey)]
pub struct KeyDocument {
    /// Names the key; null for those of the configuration, which are revoked there.
    #[schema(example = "9f86d081884c7d65")]
    pub id: Option<String>,
    /// Who holds it.
    pub name: String,
    pub role: Role,
    /// Who made it; null for those of the configuration.
    pub by: Option<String>,
    pub created_at: Option<Timestamp>,
    /// Null where it was not used since the server started.
    pub used_at: Option<Timestamp>,
}

/// The keys that were made, in the database and in memory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MadeKeys(Arc<MadeKeysState>);

#[derive(Debug)]
struct MadeKeysState {
    clock: Clock,
    store: Store,
    keys: ArcSwap<Vec<StoredApiKey>>,
    /// When each key was last used, those of the configuration among them, by hash.
    used: Mutex<HashMap<[u8; 32], Timestamp>>,
    /// One change at a time, so that memory says what the database does.
    changing: tokio::sync::Mutex<()>,
    changed: watch::Sender<()>,
}

impl MadeKeys {
    pub fn new(clock: Clock, store: Store) -> Self {
        Self(Arc::new(MadeKeysState {
            clock,
            store,
            keys: ArcSwap::default(),
            used: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            changed: watch::Sender::new(()),
        }))
    }

    /// Takes up what earlier runs have made.
    pub async fn restore(&self) {
        match self.0.store.api_keys().await {
            Ok(keys) => self.0.keys.store(Arc::new(keys)),
            Err(error) => {
                tracing::error!(event = "auth.keys_unread", error = %error, "the keys that were made cannot be read; only those of the configuration open");
            }
        }
    }

    pub fn all(&self) -> Arc<Vec<StoredApiKey>> {
        self.0.keys.load_full()
    }

    pub fn documents(&self) -> Vec<KeyDocument> {
        let document = |key: &StoredApiKey| KeyDocument {
            id: Some(key.id()),
            name: key.name.to_string(),
            role: key.role,
            by: Some(key.by.clone()),
            created_at: Some(key.created_at),
            used_at: self.used_at(&key.hash),
        };
        self.all().iter().map(document).collect()
    }

    /// Where it is said that somebody lost a right: open streams ask anew.
    pub fn changed(&self) -> &watch::Sender<()> {
        &self.0.changed
    }

    pub fn used_at(&self, hash: &[u8; 32]) -> Option<Timestamp> {
        let used = self.0.used.lock();
        used.unwrap_or_else(PoisonError::into_inner)
            .get(hash)
            .copied()
    }

    /// Notes that a key is used.
    pub fn used(&self, hash: [u8; 32]) {
        let used = self.0.used.lock();
        let mut used = used.unwrap_or_else(PoisonError::into_inner);
        used.insert(hash, self.0.clock.now());
    }

    /// Brings a key into force. False where there are too many, or one has its name.
    pub async fn make(&self, key: KeyChanged, hash: [u8; 32]) -> Result<bool, StoreError> {
        let _changing = self.0.changing.lock().await;
        let mut keys = Vec::clone(&self.all());
        if keys.len() >= MOST || keys.iter().any(|other| *other.name == *key.name) {
            return Ok(false);
        }
        keys.push(StoredApiKey {
            name: key.name.as_str().into(),
            role: key.role,
            hash,
            by: key.by.clone(),
            created_at: self.0.clock.now(),
        });
        self.change(key, keys).await?;
        Ok(true)
    }

    /// Takes the key with this id or name away. False where there is none.
    pub async fn revoke(&self, wanted: &str, by: &str) -> Result<bool, StoreError> {
        let _changing = self.0.changing.lock().await;
        let mut keys = Vec::clone(&self.all());
        let is_wanted = |key: &StoredApiKey| key.id() == wanted || *key.name == *wanted;
        let Some(at) = keys.iter().position(is_wanted) else {
            return Ok(false);
        };
        let key = keys.remove(at);
        let revoked = KeyChanged {
            name: key.name.to_string(),
            role: key.role,
            change: KeyAction::Revoked,
            by: by.to_owned(),
            hash: hex::encode(key.hash),
        };
        self.change(revoked, keys).await?;
        Ok(true)
    }

    async fn change(&self, key: KeyChanged, keys: Vec<StoredApiKey>) -> Result<(), StoreError> {
        let (name, by, change) = (key.name.clone(), key.by.clone(), key.change);
        tracing::info!(
            event = "auth.key_changed",
            key = name,
            by,
            ?change,
            "a key was made or revoked"
        );
        let record = Record::of_service(self.0.clock.now(), Event::KeyChanged(key));
        match self.0.store.append(vec![record]).await {
            // On a disk that takes nothing now, the record waits, and what was asked for holds.
            Ok(_) | Err(StoreError::Deferred) => {
                self.0.keys.store(Arc::new(keys));
                self.0.changed.send_replace(());
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
