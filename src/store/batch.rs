//! One transaction for everything that waits.

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::callers::{EncryptedPersonal, Encryptor, PlainPersonal};
use super::calls::{Moved, NewCall};
use super::committed::{Committed, EndedCall};
use super::error::is_own_fault;
use super::list_entries::SealedNumber;
use super::rollups::Added;
use super::rows::Written;
use super::submission::SubmissionOutcome;
use super::work::{self, AlertChange, Effect, PreparedRecord, RotationStep, Work};
use super::{
    api_keys, audit_records, callers, calls, checkpoints, connection, dialer_states,
    forgotten_calls, incidents, key_check, lasting_keys, list_entries, outbox, profiles, quality,
    secrets, service_starts, sessions, spool_mark,
};
use crate::audit::{ChainLink, Event, Record, SecretRotated};
use crate::call::CallId;

/// A submission on its way into the database.
#[derive(Clone)]
pub(super) struct Item {
    /// Rises from submission to submission, also over restarts.
    pub(super) number: i64,
    pub(super) work: Arc<Work>,
    /// Whoever submitted it was told to go on: its records are written in any case.
    pub(super) deferred: bool,
}

impl Item {
    /// How many records it is to write.
    pub(super) fn n(&self) -> usize {
        self.work.records().len()
    }
}

pub(super) struct Done {
    /// One for each submission, in order.
    pub(super) outcomes: Vec<SubmissionOutcome>,
    /// Where the log ended before, and where it ends now.
    pub(super) head: (ChainLink, ChainLink),
    /// Changes of calls that are not in the database.
    pub(super) unmatched: u64,
    /// The records that were written.
    pub(super) committed: Vec<Committed>,
}

/// Why a batch was not committed.
pub(super) enum BatchError {
    /// This submission cannot be stored; the others can. Nothing was written.
    Refused {
        index: usize,
        source: rusqlite::Error,
    },
    /// The database cannot be written. Nothing was.
    Failed(rusqlite::Error),
    /// COMMIT reported an error, which it also does after a commit that happened.
    InDoubt {
        done: Box<Done>,
        source: rusqlite::Error,
    },
}

/// Writes the items in order and commits them together, with the number of the last. The head of the log is read inside the
/// transaction: no memory of it can be wrong after an error; what `encryptor` remembers is forgotten then.
pub(super) fn write(
    connection: &mut Connection,
    encryptor: &mut Encryptor,
    items: &[Item],
    added: Added,
    commit: impl FnOnce(Transaction<'_>) -> rusqlite::Result<()>,
) -> Result<Done, BatchError> {
    let done = try_write(connection, encryptor, items, added, commit);
    if done.is_err() {
        encryptor.forget();
    }
    done
}

fn try_write(
    connection: &mut Connection,
    encryptor: &mut Encryptor,
    items: &[Item],
    added: Added,
    commit: impl FnOnce(Transaction<'_>) -> rusqlite::Result<()>,
) -> Result<Done, BatchError> {
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(BatchError::Failed)?;
    let before = audit_records::head(&transaction).map_err(BatchError::Failed)?;
    let written = Written::watch(&transaction, encryptor.key_ring()).map_err(BatchError::Failed)?;
    let mut batch = BatchWriter {
        connection: &transaction,
        written,
        encryptor,
        head: before,
        unmatched: 0,
        added,
        committed: Vec::new(),
        last_call: None,
    };
    let mut outcomes = Vec::new();
    for (index, item) in items.iter().enumerate() {
        match batch.apply(item) {
            Ok(outcome) => outcomes.push(outcome),
            Err(source) if is_own_fault(&source) => {
                return Err(BatchError::Refused { index, source });
            }
            Err(source) => return Err(BatchError::Failed(source)),
        }
    }
    if let Some(last) = items.last() {
        spool_mark::set(&transaction, last.number).map_err(BatchError::Failed)?;
    }
    batch
        .added
        .write(&transaction)
        .map_err(BatchError::Failed)?;
    batch
        .written
        .sign(&transaction)
        .map_err(BatchError::Failed)?;
    let done = Done {
        outcomes,
        head: (before, batch.head),
        unmatched: batch.unmatched,
        committed: batch.committed,
    };
    match commit(transaction) {
        Ok(()) => Ok(done),
        Err(source) => Err(BatchError::InDoubt {
            done: Box::new(done),
            source,
        }),
    }
}

struct BatchWriter<'c> {
    connection: &'c Connection,
    written: Written,
    encryptor: &'c mut Encryptor,
    head: ChainLink,
    unmatched: u64,
    added: Added,
    committed: Vec<Committed>,
    /// The call whose row was asked for last.
    last_call: Option<(CallId, i64)>,
}

impl BatchWriter<'_> {
    fn apply(&mut self, item: &Item) -> rusqlite::Result<SubmissionOutcome> {
        let first_id = self.head.id + 1;
        match &*item.work {
            Work::Open(records) => {
                let Some((first, rest)) = records.split_first() else {
                    return Ok(SubmissionOutcome::Repeat);
                };
                // What is known leaves no trace of its caller.
                if !item.deferred && self.is_known(first)? {
                    return Ok(SubmissionOutcome::Repeat);
                }
                let sealed = self.seal(first)?;
                // Whoever was told to go on has answered the caller: that happened, and is recorded, also of a call that is there.
                if let Effect::Begin(call) = &first.effect {
                    self.begin_call(call, first.called(), sealed.as_ref())?;
                }
                self.log(first, sealed.as_ref())?;
                self.append(rest)?;
            }
            Work::Append(records) => {
                self.append(records)?;
            }
            Work::SaveProfiles { profiles, now } => {
                for profile in profiles {
                    profiles::save(self.connection, self.encryptor.key_ring(), profile, *now)?;
                }
            }
            Work::DeleteProfile(phone) => {
                let who = profiles::who(phone);
                profiles::delete(self.connection, self.encryptor.key_ring(), &who)?;
            }
            Work::Erase { who, blocks, now } => {
                self.encryptor.forget();
                let key_ring = self.encryptor.key_ring();
                let erased = callers::erase(self.connection, &self.written, key_ring, who, blocks)?;
                if let Some(erased) = erased {
                    self.append(&[own_record(Event::CallerErased(erased), *now)?])?;
                }
                return Ok(SubmissionOutcome::Erased(erased));
            }
            Work::ExpireListEntries(now) => list_entries::expire(self.connection, *now)?,
            Work::Session(change) => sessions::change(self.connection, &self.written, change)?,
            Work::Beat => connection::touch(self.connection)?,
            Work::Checkpoint(new) => checkpoints::write(self.connection, new)?,
            Work::ChangeAlerts { changes, now } => {
                for change in changes {
                    self.change_alert(change, *now)?;
                }
            }
            Work::Prune(slice) => checkpoints::prune(self.connection, slice)?,
            Work::ForgetCalls { rows, now } => {
                self.last_call = None;
                forgotten_calls::forget(self.connection, self.encryptor.key_ring(), rows, *now)?;
            }
            Work::ForgetCallers { rows, before } => {
                self.encryptor.forget();
                callers::forget(self.connection, rows, *before)?;
            }
            Work::GiveBack(pages) => connection::give_back(self.connection, *pages)?,
            Work::Rotate(step) => self.rotate(step)?,
        }
        Ok(SubmissionOutcome::Written {
            first_id,
            last_id: self.head.id,
        })
    }

    fn change_alert(&self, change: &AlertChange, now: i64) -> rusqlite::Result<()> {
        match change {
            AlertChange::Calls(status) => incidents::count_calls(self.connection, status, now),
            AlertChange::Attempted(attempted) => {
                outbox::attempted(self.connection, &self.written, attempted, now)
            }
        }
    }

    fn rotate(&mut self, step: &RotationStep) -> rusqlite::Result<()> {
        let key_ring = self.encryptor.key_ring().clone();
        match step {
            RotationStep::Begin { by, now } => {
                if key_check::add(self.connection, &key_ring)? {
                    lasting_keys::write(self.connection, &key_ring)?;
                    let rotated = SecretRotated {
                        by: by.clone(),
                        vouch: secrets::vouch(&key_ring, &self.head.hash),
                    };
                    self.append(&[own_record(Event::SecretRotated(rotated), *now)?])?;
                }
            }
            RotationStep::Rows { table, rows } => {
                secrets::rotate_rows(self.connection, &self.written, &key_ring, table, rows)?;
            }
            RotationStep::End => key_check::keep_current(self.connection, &key_ring)?,
        }
        Ok(())
    }

    fn seal(&mut self, record: &PreparedRecord) -> rusqlite::Result<Option<EncryptedPersonal>> {
        let Some(unsealed) = &record.personal else {
            return Ok(None);
        };
        self.encryptor
            .seal(self.connection, unsealed, record.purpose())
            .map(Some)
    }

    /// Writes a call that begins and counts it. Does nothing where it is there already.
    fn begin_call(
        &mut self,
        call: &NewCall,
        called: Option<&str>,
        sealed: Option<&EncryptedPersonal>,
    ) -> rusqlite::Result<()> {
        let key_ring = self.encryptor.key_ring();
        let called_id = quality::number_row(self.connection, key_ring, called, call.at())?;
        let counted = call.counted(called_id);
        if calls::begin(self.connection, call, called_id, sealed)?
            && let Some(counted) = counted
        {
            self.added.count(&counted, call.at(), 1);
        }
        Ok(())
    }

    /// A call that moved on counts in the minute in which it arrived.
    fn recount(&mut self, moved: &Moved) {
        if moved.counts && moved.before != moved.after {
            self.added.count(&moved.before, moved.started_at, -1);
            self.added.count(&moved.after, moved.started_at, 1);
        }
        if let (None, Some(disposition), Some(last)) = (
            &moved.before.disposition,
            &moved.after.disposition,
            self.committed.last_mut(),
        ) {
            last.ended = Some(EndedCall {
                disposition: disposition.clone(),
                dialer: moved.after.dialer.clone(),
            });
        }
    }

    fn append(&mut self, records: &[PreparedRecord]) -> rusqlite::Result<()> {
        for record in records {
            let sealed = self.seal(record)?;
            if let Effect::Begin(begun) = &record.effect {
                // Does nothing where the call is there: it was decided twice.
                self.begin_call(begun, record.called(), sealed.as_ref())?;
            }
            self.log(record, sealed.as_ref())?;
            self.project(record, sealed.as_ref())?;
        }
        Ok(())
    }

    /// Whether a call is in the database, or was and is forgotten.
    fn is_known(&mut self, first: &PreparedRecord) -> rusqlite::Result<bool> {
        let Some(call) = &first.call else {
            return Ok(false);
        };
        let key_ring = self.encryptor.key_ring();
        Ok(calls::row_of(self.connection, call.as_str())?.is_some()
            || forgotten_calls::is_forgotten(self.connection, key_ring, call)?)
    }

    /// The row of the call that a record belongs to. The records of a submission are of one call.
    fn call_row(&mut self, call: Option<&CallId>) -> rusqlite::Result<Option<i64>> {
        let Some(call) = call else { return Ok(None) };
        if let Some((known, row)) = &self.last_call
            && known == call
        {
            return Ok(Some(*row));
        }
        let row = calls::row_of(self.connection, call.as_str())?;
        self.last_call = row.map(|row| (call.clone(), row));
        Ok(row)
    }

    /// Writes a record at the end of the log, and counts what it measures.
    fn log(
        &mut self,
        record: &PreparedRecord,
        sealed: Option<&EncryptedPersonal>,
    ) -> rusqlite::Result<()> {
        let call_row = self.call_row(record.call.as_ref())?;
        self.head = audit_records::append(self.connection, self.head, record, sealed, call_row)?;
        if let Some(measured) = &record.measured {
            self.added.measure(measured, record.created_at);
        }
        self.committed.push(Committed {
            id: self.head.id,
            kind: record.kind,
            call: record.call.clone(),
            ended: None,
        });
        Ok(())
    }

    fn project(
        &mut self,
        record: &PreparedRecord,
        sealed: Option<&EncryptedPersonal>,
    ) -> rusqlite::Result<()> {
        match (&record.effect, &record.call) {
            (Effect::Change(change), Some(call)) => {
                match calls::change(self.connection, &self.written, call, change)? {
                    Some(moved) => self.recount(&moved),
                    None => self.unmatched += 1,
                }
            }
            (Effect::Health(state), _) => {
                dialer_states::upsert(self.connection, &self.written, state)?;
            }
            (Effect::Started, _) => service_starts::started(self.connection, record.created_at)?,
            (Effect::Tell(told), _) => {
                outbox::announce(self.connection, &self.written, told, record.created_at)?;
            }
            (Effect::List(change), _) => {
                let number = record.personal.as_ref().and_then(PlainPersonal::number);
                let list_key = self.encryptor.key_ring().list_key();
                let sealed = number.zip(sealed).map(|(number, sealed)| SealedNumber {
                    hash: list_key.hash(&number),
                    caller_row: sealed.caller_row,
                    personal: &sealed.bytes,
                });
                let at = record.created_at;
                list_entries::change(self.connection, &self.written, change, sealed, at)?;
            }
            (Effect::Acknowledge { by, told }, _) => {
                if let outbox::About::Incident(notification) = &told.about {
                    let incident = &notification.incident;
                    incidents::acknowledge(self.connection, incident, by, record.created_at)?;
                }
                outbox::announce(self.connection, &self.written, told, record.created_at)?;
            }
            (Effect::Key(change), _) => {
                api_keys::change(self.connection, change, record.created_at)?;
            }
            (Effect::Change(_), None) | (Effect::Begin(_) | Effect::None, _) => {}
        }
        Ok(())
    }
}

/// A record of what a submission itself does.
fn own_record(event: Event, now: i64) -> rusqlite::Result<PreparedRecord> {
    let invalid = |error| rusqlite::Error::ToSqlConversionFailure(error);
    let at = Timestamp::from_millisecond(now).map_err(|error| invalid(error.into()))?;
    work::prepare(Record::of_service(at, event)).map_err(|error| invalid(error.into()))
}
