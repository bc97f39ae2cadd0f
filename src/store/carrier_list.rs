//! The carrier's list of a day as far as it was read, kept beside the database, so that a process that is killed goes on where it was.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::audit::ListedCall;
use crate::call::CallId;
use crate::files;

/// Calls of a day that are kept, about 200 bytes each. A day with more is not compared.
const MOST_CALLS: usize = 500_000;
const LARGEST: u64 = 256 * 1024 * 1024;

/// It names calls and numbers of ours, and no caller.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CarrierList {
    day: Date,
    /// The inbound calls, by id: one that stands on two pages is there once.
    pub calls: BTreeMap<CallId, ListedCall>,
    /// Numbers that were called here or led here, also of days before.
    pub numbers: BTreeSet<String>,
    /// How many accounts are read whole, and the next page of the one behind them; `None`: its first.
    pub next: (usize, Option<String>),
    #[serde(skip)]
    n_saved: usize,
}

impl CarrierList {
    /// What was read of this day; of another one, the numbers alone stay.
    pub fn of(database: &Path, day: Date) -> io::Result<Self> {
        let content = files::read(&files::beside(database, ".carrier"), LARGEST)?;
        let known = content.and_then(|content| serde_json::from_slice(&content).ok());
        let known: Self = known.unwrap_or_default();
        let numbers = known.numbers.clone();
        let anew = Self {
            day,
            numbers,
            ..Self::default()
        };
        Ok(if known.day == day { known } else { anew })
    }

    /// Takes a page in. It is written once the list has grown by a fifth, so that no list is written over and over.
    pub fn extend(&mut self, page: Vec<ListedCall>, database: &Path) -> io::Result<()> {
        let calls = page.into_iter().map(|call| (call.id.clone(), call));
        self.calls.extend(calls);
        if self.calls.len() > MOST_CALLS {
            return Err(io::Error::other("the day has more than 500,000 calls"));
        }
        if self.calls.len() >= self.n_saved + self.n_saved / 5 {
            self.save(database)?;
        }
        Ok(())
    }

    /// Forgets what was read of the day; the numbers stay.
    pub fn clear(&mut self, database: &Path) -> io::Result<()> {
        self.calls.clear();
        self.next = (0, None);
        self.save(database)
    }

    fn save(&mut self, database: &Path) -> io::Result<()> {
        self.n_saved = self.calls.len();
        let path = files::beside(database, ".carrier");
        files::replace(&path, files::PRIVATE, &serde_json::to_vec(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(n: u32) -> ListedCall {
        ListedCall {
            id: CallId::parse(&format!("CA{n:032x}")).unwrap(),
            to: "+4930900900".to_owned(),
            started_at: jiff::Timestamp::UNIX_EPOCH,
            ended_at: None,
        }
    }

    #[test]
    fn a_list_is_there_again_and_another_day_begins_anew_with_its_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("switchboard.db");
        let day = jiff::civil::date(2026, 11, 30);
        let mut list = CarrierList::of(&database, day).unwrap();
        list.numbers.insert("+4930900900".to_owned());
        list.next = (0, Some("/2".to_owned()));
        list.extend(vec![call(1), call(2)], &database).unwrap();
        list.extend(vec![call(2), call(3)], &database).unwrap();
        let list = CarrierList::of(&database, day).unwrap();
        assert_eq!(list.calls.len(), 3, "one that stands twice is there once");
        assert_eq!(list.next, (0, Some("/2".to_owned())));
        let list = CarrierList::of(&database, day.tomorrow().unwrap()).unwrap();
        assert_eq!((list.calls.len(), list.numbers.len()), (0, 1));
    }
}
