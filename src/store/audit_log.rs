//! What the audit log says of itself: its end, its name, and how far it is signed.

use jiff::Timestamp;

use super::audit_records::{self, RawRecord};
use super::error::{self, StoreError};
use super::handle::Store;
use super::head_file::{self, head_path, read_head};
use super::{column, found, verify};
use crate::audit::{
    ChainLink, Event, Kind, Record, Restored, RollbackAccepted, SignedTreeHead, SigningKeyNamed,
    SigningStatus,
};
use crate::files;

impl Store {
    /// The end of the audit chain.
    pub async fn head(&self) -> Result<ChainLink, StoreError> {
        self.ask(|reader| Ok(audit_records::head(reader)?)).await
    }

    /// Where the audit log was signed last, and whether it can be signed.
    pub fn signing_status(&self) -> SigningStatus {
        self.0.signing_status.borrow().clone()
    }

    pub(super) fn publish_signing_status(&self, signing_status: SigningStatus) {
        self.0.signing_status.send_replace(signing_status);
    }

    /// Gives up the head that is kept beside the database, or that is gone, for what the database holds: writes one anew, and records that. Gives
    /// the head that was given up; `None` where there was none to give up and nothing is signed.
    pub async fn accept_rollback(&self) -> Result<Option<SignedTreeHead>, StoreError> {
        let path = head_path(self.path());
        let unreadable = |error: std::io::Error| StoreError::Unavailable(error.into());
        let signed = self.signed_head().await?;
        let given_up = read_head(&path).ok().flatten().or(signed.clone());
        let Some(given_up) = given_up else {
            return Ok(None);
        };
        let accepted = RollbackAccepted {
            records: given_up.records,
            head: given_up.head.clone(),
        };
        let event = Event::RollbackAccepted(accepted);
        let record = Record::of_service(self.clock().now(), event);
        self.append(vec![record]).await?;
        match signed {
            Some(head) => head_file::write_head(&path, &head),
            None => files::remove(&path),
        }
        .map_err(unreadable)?;
        Ok(Some(given_up))
    }

    /// Records that a backup was put in place of the database, and writes the head beside it anew where there is none.
    pub async fn record_restored(&self, records: u64, head: String) -> Result<(), StoreError> {
        let path = head_path(self.path());
        let unreadable = |error: std::io::Error| StoreError::Unavailable(error.into());
        let is_missing = read_head(&path).map_err(unreadable)?.is_none();
        let signed = self.signed_head().await?.filter(|_| is_missing);
        let restored = Restored {
            records,
            head,
            head_written: signed.is_some(),
        };
        let record = Record::of_service(self.clock().now(), Event::Restored(restored));
        self.append(vec![record]).await?;
        match signed {
            Some(head) => head_file::write_head(&path, &head).map_err(unreadable),
            None => Ok(()),
        }
    }

    /// The head that the newest checkpoint in the file signs; `None` where there is none that holds.
    async fn signed_head(&self) -> Result<Option<SignedTreeHead>, StoreError> {
        let path = self.path().to_owned();
        let asked = tokio::task::spawn_blocking(move || verify::signed_head(&path)).await;
        let unavailable = |error: error::Source| StoreError::Unavailable(error);
        let signed = asked
            .map_err(|error| unavailable(error.into()))?
            .map_err(|error| unavailable(error.into()))?;
        Ok(signed.map(|signed| signed.head))
    }

    /// When the last record happened.
    pub async fn last_record_at(&self) -> Result<Option<Timestamp>, StoreError> {
        self.ask(|reader| {
            let last = audit_records::head(reader)?;
            let at = found::first(reader, last.id, |row| column::time(row.content.created_at))?;
            Ok(at.flatten())
        })
        .await
    }

    /// The newest record of a kind in which the log tells of itself.
    pub(super) async fn newest_of(&self, kind: Kind) -> Result<Option<i64>, StoreError> {
        self.ask(move |reader| {
            let newest = audit_records::last_of_kind(reader, kind)?;
            Ok(newest.map(|record| record.id))
        })
        .await
    }

    /// The key that the log names last.
    pub(super) async fn last_signing_key(&self) -> Result<Option<SigningKeyNamed>, StoreError> {
        self.ask(|reader| {
            let named = audit_records::last_of_kind(reader, Kind::SigningKeyNamed)?;
            let read = |named: RawRecord| serde_json::from_str(&named.detail).ok();
            Ok(named.and_then(read))
        })
        .await
    }

    /// The random name of this audit log, made with the database.
    pub async fn log_id(&self) -> Result<String, StoreError> {
        self.ask(|reader| Ok(audit_records::log_id(reader)?)).await
    }
}
