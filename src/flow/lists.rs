//! Entries of lists of callers: adding and removing numbers while the process runs, and forgetting a person.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use utoipa::ToSchema;

use crate::audit::{Event, ListAction, ListChanged, Personal, Record};
use crate::clock::Clock;
use crate::phone::{Caller, E164};
use crate::routing::Lists;
use crate::store::{Erased, Part, Rows, Store, StoreError, StoredListEntry};

/// Changes entries of lists, in the database and in memory, and writes down who did it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ListEntries {
    pub clock: Clock,
    pub store: Store,
    pub lists: Lists,
    /// One change at a time, so that memory says what the database does.
    changing: Arc<Mutex<()>>,
}

/// A number that is to be put on a list.
#[derive(Clone, Debug)]
pub struct NewListEntry {
    pub number: E164,
    pub why: Option<String>,
    /// From then on it does not count any more.
    pub until: Option<Timestamp>,
}

/// Why a list was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    #[error("there is no list of this name")]
    UnknownList,
    #[error("there is no such entry on the list")]
    UnknownEntry,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A list of callers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = CallerList)]
pub struct ListDocument {
    #[schema(example = "vip")]
    pub name: String,
    /// How many numbers and beginnings of numbers the configuration and the list's file name.
    pub numbers: usize,
    /// The name of the list's file; null where it has none.
    pub file: Option<String>,
    /// How many entries were added while the program ran, without those that are over.
    pub entries: usize,
}

/// A number on a list that was put there while the program ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ListEntry)]
pub struct ListEntryDocument {
    /// Names the entry; says nothing of the number.
    #[schema(example = "9f86d081884c7d65")]
    pub id: String,
    /// The number, masked unless `reveal=true`; null where the person was erased and stays blocked.
    #[schema(example = "+**********90")]
    pub number: Option<String>,
    /// Why it is there, as somebody wrote it.
    pub why: Option<String>,
    /// Who put it there.
    #[schema(example = "ops")]
    pub by: String,
    /// From then on it does not count any more; null where it has no end.
    pub until: Option<Timestamp>,
    pub created_at: Timestamp,
}

impl ListEntryDocument {
    pub fn new(entry: StoredListEntry, in_full: bool) -> Self {
        let shown = |number: E164| {
            if in_full {
                number.as_str().to_owned()
            } else {
                number.masked()
            }
        };
        Self {
            id: entry.id,
            number: entry.number.map(shown),
            why: entry.why,
            by: entry.by,
            until: entry.until,
            created_at: entry.created_at,
        }
    }
}

impl ListEntries {
    pub fn new(clock: Clock, store: Store) -> Self {
        Self {
            clock,
            lists: Lists::new(store.list_key()),
            store,
            changing: Arc::default(),
        }
    }

    /// Takes up what earlier runs have added.
    pub async fn restore(&self) {
        match self.store.list_entries().await {
            Ok(entries) => self.lists.restore(&entries),
            Err(error) => {
                tracing::error!(event = "lists.unread", error = %error, "the entries of lists cannot be read; only what the configuration names is on a list");
            }
        }
    }

    /// Every list, by name.
    pub fn all(&self) -> Vec<ListDocument> {
        let counts = self.lists.counts(self.clock.now());
        let definitions = self.lists.definitions();
        let documents = definitions.iter().map(|(name, list)| {
            let file = list.file.as_ref().and_then(|file| file.path.file_name());
            ListDocument {
                name: name.to_string(),
                numbers: list.summary().numbers,
                file: file.map(|name| name.to_string_lossy().into_owned()),
                entries: counts.get(name).copied().unwrap_or_default(),
            }
        });
        documents.collect()
    }

    /// A page of the entries of a list, the newest first.
    pub async fn page(
        &self,
        list: &str,
        part: Part<i64>,
    ) -> Result<Rows<StoredListEntry, i64>, ListError> {
        self.check(list)?;
        Ok(self.store.list_page(list, part).await?)
    }

    /// Puts a number on a list. A number that is there gets the reason and the end that it is given now, so that a block is never lifted to renew
    /// it. Gives the entry, and whether it is new.
    pub async fn add(
        &self,
        list: &str,
        new: NewListEntry,
        by: &str,
    ) -> Result<(StoredListEntry, bool), ListError> {
        let _changing = self.changing.lock().await;
        self.check(list)?;
        let known = self.lists.entry(list, &new.number);
        let is_new = known.is_none();
        let id = match known {
            Some(entry) => entry.id.to_string(),
            None => drawn_id()?,
        };
        let personal = Personal {
            caller: Some(new.number.as_str().to_owned()),
            why: new.why.clone(),
            ..Personal::default()
        };
        let changed = ListChanged {
            list: list.to_owned(),
            entry: id.clone(),
            change: ListAction::Added,
            by: by.to_owned(),
            until: new.until,
        };
        let at = self.record(Some(personal), changed).await?;
        self.lists.insert(list, &new.number, &id, new.until);
        // While the database takes nothing, the record waits and the entry counts: what was asked for is what holds.
        let stored = self.store.list_entry(list, &id).await.ok().flatten();
        let entry = StoredListEntry {
            id,
            list: list.to_owned(),
            number: Some(new.number),
            why: new.why,
            by: by.to_owned(),
            until: new.until,
            created_at: stored.map_or(at, |entry| entry.created_at),
        };
        Ok((entry, is_new))
    }

    /// Takes an entry off a list.
    pub async fn remove(&self, list: &str, id: &str, by: &str) -> Result<(), ListError> {
        let _changing = self.changing.lock().await;
        self.check(list)?;
        let entry = self.store.list_entry(list, id).await?;
        // One whose record still waits for the database is known in memory alone.
        if entry.is_none() && !self.lists.holds(list, id) {
            return Err(ListError::UnknownEntry);
        }
        let number = entry.and_then(|entry| entry.number);
        let personal = number.map(|number| Personal {
            caller: Some(number.as_str().to_owned()),
            ..Personal::default()
        });
        let changed = ListChanged {
            list: list.to_owned(),
            entry: id.to_owned(),
            change: ListAction::Removed,
            by: by.to_owned(),
            until: None,
        };
        self.record(personal, changed).await?;
        self.lists.remove(list, id);
        Ok(())
    }

    /// Takes a number off a list.
    pub async fn remove_number(
        &self,
        list: &str,
        number: &E164,
        by: &str,
    ) -> Result<(), ListError> {
        self.check(list)?;
        let entry = self.lists.entry(list, number);
        let entry = entry.ok_or(ListError::UnknownEntry)?;
        self.remove(list, &entry.id, by).await
    }

    /// Deletes what is over.
    pub async fn expire(&self) {
        let _changing = self.changing.lock().await;
        if self.lists.expire(self.clock.now())
            && let Err(error) = self.store.expire_list_entries().await
        {
            tracing::warn!(event = "lists.not_expired", error = %error, "entries of lists that are over are not deleted yet; they do not count");
        }
    }

    /// Forgets a person: see [`Store::erase`].
    pub async fn erase(&self, caller: &Caller) -> Result<Option<Erased>, StoreError> {
        let _changing = self.changing.lock().await;
        let erased = self.store.erase(caller, &self.blocks()).await?;
        if let Some(number) = caller.number() {
            self.lists.erase(number);
        }
        Ok(erased)
    }

    /// What [`ListEntries::erase`] would erase.
    pub async fn known_of(&self, caller: &Caller) -> Result<Option<Erased>, StoreError> {
        self.store.known_of(caller, &self.blocks()).await
    }

    fn blocks(&self) -> Vec<String> {
        let definitions = self.lists.definitions();
        let blocks = definitions.iter().filter(|(_, list)| list.blocks);
        blocks.map(|(name, _)| name.to_string()).collect()
    }

    fn check(&self, list: &str) -> Result<(), ListError> {
        let is_known = self.lists.definitions().contains_key(list);
        is_known.then_some(()).ok_or(ListError::UnknownList)
    }

    async fn record(
        &self,
        personal: Option<Personal>,
        changed: ListChanged,
    ) -> Result<Timestamp, StoreError> {
        let at = self.clock.now();
        let (list, by, change) = (&*changed.list, &*changed.by, changed.change);
        tracing::info!(
            event = "list.changed",
            list,
            by,
            ?change,
            "an entry of a list was changed"
        );
        let record = Record {
            personal,
            ..Record::of_service(at, Event::ListChanged(changed))
        };
        match self.store.append(vec![record]).await {
            Ok(_) | Err(StoreError::Deferred) => Ok(at),
            Err(error) => Err(error),
        }
    }
}

/// Names an entry: 64 random bits.
fn drawn_id() -> Result<String, StoreError> {
    let mut bytes = [0; 8];
    let drawn = getrandom::fill(&mut bytes);
    drawn.map_err(|error| StoreError::Unavailable(error.into()))?;
    Ok(hex::encode(bytes))
}
