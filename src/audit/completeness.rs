//! Whether every call that the carrier had stands in the log: what a comparison with its list came to.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::call::CallId;

/// Findings that are named one by one in a record; the rest is counted.
pub const FINDINGS_NAMED: usize = 1_000;

/// The calls of a day, UTC, were compared with those that Twilio lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletenessChecked {
    /// Calls that began at or after this: midnight, or the first whole second of the log; and before `to`, the next midnight.
    pub from: Timestamp,
    pub to: Timestamp,
    /// Who asked for it: `the daily check`, or a user of the machine.
    pub by: String,
    /// Inbound calls to our numbers that Twilio lists.
    pub listed: u64,
    /// Of these, neither in the log nor known to have been answered at our fallback URL.
    pub missing: u64,
    pub fallback: u64,
    /// Calls of the log that Twilio does not know.
    pub unlisted: u64,
    /// Calls of both whose ends differ.
    pub differing: u64,
    /// Whether Twilio let its alerts be read, by which calls that are missing have a code.
    pub with_alerts: bool,
    /// SHA-256, in hexadecimal, over the ids of the listed calls in ascending order, a line feed behind each.
    pub list_hash: String,
    /// The first 1,000, by call.
    pub findings: Vec<CompletenessFinding>,
}

/// A call to a number of ours, as Twilio lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedCall {
    pub id: CallId,
    /// What was called.
    pub to: String,
    pub started_at: Timestamp,
    /// `None` while it goes on.
    pub ended_at: Option<Timestamp>,
}

/// A call of which log and carrier do not say the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CompletenessFinding {
    #[schema(value_type = String)]
    pub call_id: CallId,
    /// When it began: by Twilio, or by the log where Twilio does not know it.
    pub at: Timestamp,
    pub found: Discrepancy,
    /// The first error that Twilio met with this call, by its alerts: 11200, 12100 …
    pub code: Option<u32>,
    /// When it ended by Twilio, and by the log, where that is known.
    pub ended_at: Option<Timestamp>,
    pub log_ended_at: Option<Timestamp>,
}

/// What is not as it should be of a call; all but the last three: it is missing in the log, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Discrepancy {
    /// Its number does not lead here by Twilio's settings of now: the webhook was never sent.
    Elsewhere,
    /// Nothing was recorded between a record before it and the next start of the service.
    Down,
    /// Twilio could not connect, or had no answer in time.
    Unreachable,
    /// What answered did not answer with success, or with nothing that Twilio could use.
    Refused,
    /// The call has its row, and no record.
    RecordsGone,
    /// Twilio met no error: the webhook went elsewhere, or what was recorded is gone.
    Unexplained,
    /// It was answered at our fallback URL, whether it is in the log or not.
    Fallback,
    /// The log has it, Twilio has not.
    Unlisted,
    /// Both have it, and their ends are more than 30 s apart, or one says that it goes on.
    EndDiffers,
}

impl Discrepancy {
    /// Why a call is missing with which Twilio met this error.
    pub fn of_code(code: Option<u32>) -> Self {
        match code {
            Some(11_201..=11_203 | 11_205 | 11_210 | 11_220..=11_259) => Self::Unreachable,
            Some(11_200..=11_219 | 11_750 | 11_770 | 12_100..=12_400) => Self::Refused,
            Some(_) | None => Self::Unexplained,
        }
    }

    pub fn is_missing(self) -> bool {
        !matches!(self, Self::Fallback | Self::Unlisted | Self::EndDiffers)
    }
}

impl CompletenessChecked {
    /// What came of it, in a sentence.
    pub fn in_words(&self) -> String {
        format!(
            "Twilio lists {} calls; {} are missing in the log, {} were answered at the fallback URL, {} end otherwise; {} are not at Twilio",
            self.listed, self.missing, self.fallback, self.differing, self.unlisted
        )
    }
}

/// The hash of a list of calls, which come in ascending order.
pub fn list_hash<'a>(calls: impl IntoIterator<Item = &'a CallId>) -> String {
    let mut hash = Sha256::new();
    for call in calls {
        hash.update(call.as_str());
        hash.update(b"\n");
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_list_is_that_of_its_lines() {
        let calls = ["CA1", "CA2"].map(|id| CallId::parse(id).unwrap());
        // printf 'CA1\nCA2\n' | sha256sum
        assert_eq!(
            list_hash(&calls),
            "f067912b24a6507ca54aa17614c9b98c5500258160a1061010b52d6d0f088807"
        );
    }

    #[test]
    fn codes_of_the_network_are_told_from_those_of_an_answer() {
        let of = |code| Discrepancy::of_code(Some(code));
        assert_eq!(
            [11_205, 11_200, 12_100, 13_224].map(of),
            [
                Discrepancy::Unreachable,
                Discrepancy::Refused,
                Discrepancy::Refused,
                Discrepancy::Unexplained
            ]
        );
    }
}
