//! What the store is asked: calls, records, profiles, sessions and figures.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::api_keys::{self, StoredApiKey};
use super::audit_records::{self, RawRecord, StoredRecord, read_all};
use super::call_filter::{self, CallerCalls};
use super::calls::{self, InProgress, StoredCall};
use super::dialer_states;
use super::error::StoreError;
use super::forgotten_calls::{self, Past};
use super::handle::Store;
use super::key_ring;
use super::legs::{self, StoredLeg};
use super::list_entries::{self, StoredListEntry};
use super::pages::{self, CallPlace, CallsAsked, Part, RecordsAsked, Rows};
use super::profiles::{self, StoredProfile};
use super::quality::{self, Dimension, QualityGroup};
use super::reveals::{self, Reveals};
use super::rollups::{self, Figures};
use super::rulesets::{self, RulesetPeriod};
use super::sessions::{self, StoredSession};
use crate::audit::{HandoffIntended, Kind, ServiceState};
use crate::call::{CallId, InboundCall};
use crate::phone::Caller;
use crate::routing::{DialerId, History, ListEntry, Ruleset, RulesetVersion};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub records: i64,
    pub oldest_record: Option<i64>,
    /// Calls since the database was made: their highest row.
    pub calls: i64,
    pub active_calls: i64,
    pub profiles: i64,
}

impl Store {
    /// Every session, the latest used first.
    pub async fn sessions(&self) -> Result<Vec<StoredSession>, StoreError> {
        let now = self.clock().now();
        self.ask(move |reader| sessions::all(reader, now)).await
    }

    /// The figures from one time to another, in milliseconds since the Unix epoch and whole minutes, in steps of `step_ms`, by where they begin.
    pub async fn figures(
        &self,
        from: i64,
        to: i64,
        step_ms: i64,
    ) -> Result<BTreeMap<i64, Figures>, StoreError> {
        self.ask(move |reader| rollups::between(reader, from, to, step_ms))
            .await
    }

    /// How calls went that arrived within these hours, which begin at whole ones, in milliseconds since the Unix epoch.
    pub async fn quality(
        &self,
        dimension: Dimension,
        hours: [i64; 2],
    ) -> Result<Vec<QualityGroup>, StoreError> {
        self.ask(move |reader| Ok(quality::between(reader, dimension, hours)?))
            .await
    }

    /// What a step of a call was answered.
    pub async fn answer(&self, call: &CallId, step: &str) -> Result<Option<String>, StoreError> {
        let (call, step) = (call.clone(), step.to_owned());
        self.ask(move |reader| audit_records::answer(reader, &call, &step))
            .await
    }

    /// What is left of a call, and what that means for a webhook of it. Its carrier repeats webhooks for `repeats` after its end.
    pub async fn past(&self, call: &CallId, repeats: SignedDuration) -> Result<Past, StoreError> {
        let call = call.clone();
        let before = self.clock().now().as_millisecond();
        let before = before.saturating_sub(i64::try_from(repeats.as_millis()).unwrap_or(i64::MAX));
        self.ask(move |reader| Ok(forgotten_calls::past(reader, &call, before)?))
            .await
    }

    pub async fn call(&self, call: &CallId) -> Result<Option<StoredCall>, StoreError> {
        let call = call.clone();
        self.ask(move |reader| calls::find(reader, &call)).await
    }

    /// The calls of a caller before this one; `None` where the caller is nobody who can be told from others.
    pub async fn history(&self, call: &InboundCall) -> Result<Option<History>, StoreError> {
        let Some(who) = key_ring::who(&call.caller) else {
            return Ok(None);
        };
        let (call, now) = (call.call_id.clone(), self.clock().now());
        self.ask(move |reader| calls::history(reader, &who, &call, now).map(Some))
            .await
    }

    /// A number that follows from who calls and from `name`, under a key of this installation: the same one for as long as it lasts. `None`
    /// for a caller who is nobody who can be told from others.
    pub fn hash_of(&self, caller: &Caller, name: &str) -> Option<u32> {
        Some(self.key_ring().hash_of(&key_ring::who(caller)?, name))
    }

    /// The calls on hold, oldest first. At start: those who wait since before.
    pub async fn calls_held(&self) -> Result<Vec<StoredCall>, StoreError> {
        self.ask(calls::held).await
    }

    /// Calls in progress of which nothing was heard since `before`, longest silence first: each with the time of its last news.
    pub async fn silent_calls(
        &self,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<(CallId, Timestamp)>, StoreError> {
        self.ask(move |reader| calls::silent(reader, before, limit))
            .await
    }

    /// Calls in progress, in the order of their arrival, each with its time.
    pub async fn calls_in_progress(&self) -> Result<Vec<(CallId, Timestamp)>, StoreError> {
        self.ask(calls::in_progress).await
    }

    /// The last intents to hand off of these calls that nothing concludes. Records after `through` do not count.
    pub async fn open_intents(
        &self,
        calls: Vec<CallId>,
        through: i64,
    ) -> Result<Vec<(CallId, HandoffIntended)>, StoreError> {
        self.ask(move |reader| {
            let mut open = Vec::new();
            for call in calls {
                let intended = audit_records::open_intent(reader, &call, through)?;
                open.extend(intended.map(|intended| (call, intended)));
            }
            Ok(open)
        })
        .await
    }

    /// The calls that dialers have now, each with its dialer and the time of its arrival.
    pub async fn calls_at_dialers(&self) -> Result<Vec<(CallId, DialerId, Timestamp)>, StoreError> {
        self.ask(calls::at_dialers).await
    }

    /// How many calls are in progress.
    pub async fn count_active_calls(&self) -> Result<i64, StoreError> {
        self.ask(|reader| Ok(calls::count_active(reader)?)).await
    }

    /// Calls in progress, by where they stand.
    pub async fn calls_in_progress_now(&self) -> Result<InProgress, StoreError> {
        self.ask(|reader| Ok(calls::in_progress_now(reader)?)).await
    }

    /// The legs of a call, in the order in which they were heard of.
    pub async fn legs(&self, call: &CallId) -> Result<Vec<StoredLeg>, StoreError> {
        let call = call.clone();
        self.ask(move |reader| legs::of_call(reader, &call)).await
    }

    /// The records of a call, in order.
    pub async fn records_of_call(&self, call: &CallId) -> Result<Vec<StoredRecord>, StoreError> {
        let call = call.clone();
        self.ask(move |reader| read_all(reader, audit_records::of_call(reader, &call)?))
            .await
    }

    /// The records after `after_id`, in order: a page.
    pub async fn records(
        &self,
        after_id: i64,
        limit: u32,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        self.ask(move |reader| read_all(reader, audit_records::after(reader, after_id, limit)?))
            .await
    }

    /// As [`Store::records`], byte for byte, for a verifier.
    pub async fn raw_records(
        &self,
        after_id: i64,
        limit: u32,
    ) -> Result<Vec<RawRecord>, StoreError> {
        self.ask(move |reader| Ok(audit_records::after(reader, after_id, limit)?))
            .await
    }

    /// A page of calls, newest first, each with its legs.
    pub async fn calls_page(
        &self,
        asked: CallsAsked,
        part: Part<CallPlace>,
    ) -> Result<Rows<(StoredCall, Vec<StoredLeg>), CallPlace>, StoreError> {
        self.ask(move |reader| pages::calls(reader, &asked, part))
            .await
    }

    /// Who is in this row of callers, with what their calls come to; `None` where nobody is.
    pub async fn caller(&self, row: i64) -> Result<Option<(Caller, CallerCalls)>, StoreError> {
        self.ask(move |reader| call_filter::caller(reader, row))
            .await
    }

    /// A page of audit records, newest first.
    pub async fn records_page(
        &self,
        asked: RecordsAsked,
        part: Part<i64>,
    ) -> Result<Rows<StoredRecord, i64>, StoreError> {
        self.ask(move |reader| pages::records(reader, &asked, part))
            .await
    }

    /// A page of the times during which rule sets were in force, newest first.
    pub async fn ruleset_periods(
        &self,
        part: Part<i64>,
    ) -> Result<Rows<RulesetPeriod, i64>, StoreError> {
        self.ask(move |reader| Ok(rulesets::page(reader, part)?))
            .await
    }

    /// The rule set of this version, where the log holds it.
    pub async fn ruleset(&self, version: RulesetVersion) -> Result<Option<Ruleset>, StoreError> {
        self.ask(move |reader| rulesets::find(reader, i64::MAX, &version))
            .await
    }

    /// The text of the draft of the rules that was saved last; `None` where there is none, or its record is pruned.
    pub async fn draft(&self) -> Result<Option<String>, StoreError> {
        self.ask(|reader| {
            let last = audit_records::last_of_kind(reader, Kind::DraftChanged)?;
            let last = last.map(|record| record.read(reader)).transpose()?;
            Ok(last.and_then(|record| record.personal?.body))
        })
        .await
    }

    /// Every key that was made while the program ran.
    pub async fn api_keys(&self) -> Result<Vec<StoredApiKey>, StoreError> {
        self.ask(api_keys::all).await
    }

    /// Who saw numbers of callers in full between two times, in milliseconds since the Unix epoch.
    pub async fn reveals(&self, from: i64, to: i64) -> Result<Vec<Reveals>, StoreError> {
        self.ask(move |reader| reveals::between(reader, from, to))
            .await
    }

    /// Every entry of lists, as lists are asked for callers.
    pub async fn list_entries(&self) -> Result<Vec<ListEntry>, StoreError> {
        self.ask(list_entries::all).await
    }

    /// The entry of this name on a list.
    pub async fn list_entry(
        &self,
        list: &str,
        id: &str,
    ) -> Result<Option<StoredListEntry>, StoreError> {
        let (list, id) = (list.to_owned(), id.to_owned());
        self.ask(move |reader| list_entries::find(reader, &list, &id))
            .await
    }

    /// A page of the entries of a list, the newest first.
    pub async fn list_page(
        &self,
        list: &str,
        part: Part<i64>,
    ) -> Result<Rows<StoredListEntry, i64>, StoreError> {
        let list = list.to_owned();
        self.ask(move |reader| {
            let after = part.after.unwrap_or(i64::MAX);
            let one_more = i64::from(part.size) + 1;
            let mut rows = list_entries::before(reader, &list, after, part.skip, one_more)?;
            let size = usize::try_from(part.size).unwrap_or(usize::MAX);
            let has_more = rows.len() > size;
            rows.truncate(size);
            Ok(Rows {
                next: rows.last().map(|(row, _)| *row).filter(|_| has_more),
                rows: rows.into_iter().map(|(_, entry)| entry).collect(),
                total: list_entries::count(reader, &list)?,
                total_is_exact: true,
            })
        })
        .await
    }

    /// The last recorded state of every dialer and of Braze.
    pub async fn dialer_states(&self) -> Result<Vec<ServiceState>, StoreError> {
        self.ask(dialer_states::all).await
    }

    /// The profiles, newest answer first.
    pub async fn profiles(&self, limit: u32) -> Result<Vec<StoredProfile>, StoreError> {
        self.ask(move |reader| profiles::newest(reader, limit))
            .await
    }

    pub async fn counts(&self) -> Result<Counts, StoreError> {
        self.ask(|reader| {
            let (oldest_record, records) = audit_records::extent(reader)?;
            let (calls, active_calls) = calls::count(reader)?;
            Ok(Counts {
                records,
                oldest_record,
                calls,
                active_calls,
                profiles: profiles::count(reader)?,
            })
        })
        .await
    }
}
