//! What calls are filtered by beside their plain columns: how they came out, and digits of their numbers.

use rusqlite::types::Value;
use rusqlite::{Row, params_from_iter};

use super::callers;
use super::calls;
use super::error::StoreError;
use super::readers::RowReader;
use crate::phone::Caller;

/// Why a call is a routing failure, in the words and by the rules of the roll-ups; NULL where it is none.
pub(super) const FAILURE: &str = "CASE
    WHEN disposition IN ('no_answer', 'busy', 'failed', 'last_resort', 'goodbye')
        OR (status IN ('dialing', 'bridged') AND json_extract(state, '$.phase.target.is') = 'last_resort')
    THEN CASE WHEN reason IN ('no_dialer_available', 'all_dialers_refused', 'all_legs_failed')
        THEN reason ELSE coalesce(disposition, 'last_resort') END
    WHEN overran THEN 'over_budget' END";

/// How calls came out. `failed` is any failure; who is `unreached` talked to nobody, in this call or in the next hundred.
const OUTCOMES: [(&str, &str); 4] = [
    ("answered", "disposition = 'answered' AND ?"),
    ("failed", "failure IS NOT NULL AND ?"),
    ("abandoned", "disposition = 'abandoned' AND ?"),
    (
        "unreached",
        "answered_at IS NULL AND disposition IN ('abandoned', 'no_answer', 'busy', 'failed', 'last_resort', 'goodbye')
         AND NOT EXISTS (SELECT 1 FROM (
             SELECT later.answered_at AS answered_at FROM calls AS later
             WHERE later.caller_id = tried.caller_id AND later.id > tried.id ORDER BY later.id LIMIT 100
         ) WHERE answered_at IS NOT NULL) AND ?",
    ),
];

/// Empty, it lets every call through.
#[derive(Clone, Debug, Default)]
pub struct CallFilter {
    pub(super) conditions: Vec<(&'static str, Value)>,
    /// The row of the caller.
    pub caller_row: Option<i64>,
    pub caller: Option<Digits>,
    pub called: Option<Digits>,
}

impl CallFilter {
    /// The names of what [`CallFilter::set`] sets, a space between them.
    pub const NAMES: &str =
        "outcome failure rule failed_over held slower_than caller called caller_id called_id";
    /// Why calls fail, as figures count it.
    pub const FAILURES: &str = "no_dialer_available all_dialers_refused all_legs_failed over_budget no_answer busy failed last_resort goodbye";
    /// How calls come out.
    pub const OUTCOMES: &str = "answered failed abandoned unreached";

    /// Sets a filter by its name; what is wrong with its text, in words.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), String> {
        let one_of = |names: &str| format!("must be one of: {}", names.replace(' ', ", "));
        let value = || Value::Text(text.to_owned());
        let digits = || {
            let wrong = "must be two to 15 last digits, or a number like +4930123456, with + written as %2B in a query";
            Digits::parse(text).ok_or(wrong)
        };
        let condition = match name {
            "outcome" => {
                let found = OUTCOMES.iter().find(|(name, _)| *name == text);
                let (_, condition) = found.ok_or_else(|| one_of(Self::OUTCOMES))?;
                (*condition, Value::Integer(1))
            }
            "failure" if Self::FAILURES.split(' ').any(|why| why == text) => {
                ("failure = ?", value())
            }
            "failure" => return Err(one_of(Self::FAILURES)),
            "rule" => {
                if !(1..=64).contains(&text.chars().count()) {
                    return Err("must be the name of a rule, or (default)".to_owned());
                }
                ("coalesce(rule, '(default)') = ?", value())
            }
            "failed_over" | "held" => {
                let flag: bool = text.parse().map_err(|_| "must be true or false")?;
                let is_over = name == "failed_over";
                let condition = if is_over {
                    "failed_over = ?"
                } else {
                    "held = ?"
                };
                (condition, Value::Integer(flag.into()))
            }
            "slower_than" => {
                let ms = number(text).filter(|ms| *ms <= 600_000);
                let ms = ms.ok_or("must be a whole number of milliseconds, 0 to 600000")?;
                ("routing_ms > ?", Value::Integer(ms))
            }
            "called_id" => {
                let row = number(text).filter(|_| !text.starts_with('0'));
                let row = row.ok_or("must be the called_id of a row of /quality")?;
                ("called_id = ?", Value::Integer(row))
            }
            "caller_id" => {
                let row = number(text).filter(|_| !text.starts_with('0'));
                self.caller_row = Some(row.ok_or("must be the caller_id of a call")?);
                return Ok(());
            }
            "caller" => {
                self.caller = Some(digits()?);
                return Ok(());
            }
            _ => {
                self.called = Some(digits()?);
                return Ok(());
            }
        };
        self.conditions.push(condition);
        Ok(())
    }

    /// Whether rows have to be opened to be tried.
    pub(super) fn is_sealed(&self) -> bool {
        self.caller.is_some() || self.called.is_some()
    }

    /// Whether the numbers of a row are those that are asked for.
    fn has_numbers(&self, reader: &RowReader<'_>, row: &Row<'_>) -> rusqlite::Result<bool> {
        let (sid, made_at): (String, i64) = (row.get(2)?, row.get(3)?);
        let purpose = calls::purpose(&sid, made_at, row.get(5)?);
        let sealed: Option<Vec<u8>> = row.get(4)?;
        let personal = sealed.and_then(|sealed| reader.personal(&sealed, purpose));
        let fits = |wanted: &Option<Digits>, number: Option<&String>| {
            let is_end = |digits: &Digits| number.is_some_and(|number| digits.end(number));
            wanted.as_ref().is_none_or(is_end)
        };
        Ok(personal.is_some_and(|personal| {
            fits(&self.caller, personal.caller.as_ref())
                && fits(&self.called, personal.called.as_ref())
        }))
    }

    /// Arrival and number of the rows that `sql` gives and whose numbers are those that are asked for: `most` of them after `skip`. The columns are
    /// these two, the id of the call, the time of its row, what is sealed, and whether it was adopted.
    pub(super) fn opened(
        &self,
        reader: &RowReader<'_>,
        sql: &str,
        values: Vec<Value>,
        skip: usize,
        most: usize,
    ) -> Result<Vec<(i64, i64)>, StoreError> {
        let mut statement = reader.prepare_cached(sql)?;
        let mut rows = statement.query(params_from_iter(values))?;
        let mut found = Vec::new();
        while found.len() < skip.saturating_add(most)
            && let Some(row) = rows.next()?
        {
            if self.has_numbers(reader, row)? {
                found.push((row.get(0)?, row.get(1)?));
            }
        }
        Ok(found.split_off(skip.min(found.len())))
    }
}

/// A whole number of at most 18 digits.
fn number(text: &str) -> Option<i64> {
    let are_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| are_digits && text.len() <= 18)
}

/// Digits that a number ends with.
#[derive(Clone, PartialEq, Eq)]
pub struct Digits {
    digits: String,
    is_whole: bool,
}

impl Digits {
    /// Two to 15 last digits, or a whole number with `+`. More than six may begin with the `0` of the national form, or with `00`.
    fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('+').unwrap_or(text);
        let is_whole = text.len() > digits.len();
        let length = if is_whole { 7..=15 } else { 2..=15 };
        let is_right = length.contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && !(is_whole && digits.starts_with('0'));
        let without = digits.trim_start_matches('0');
        let is_national = digits.len() > 6 && without.len() > 2;
        let digits = if is_national { without } else { digits }.to_owned();
        is_right.then_some(Self { digits, is_whole })
    }

    /// Whether they say more of a number than its masked form does.
    pub fn is_telling(&self) -> bool {
        self.digits.len() > 2
    }

    /// A whole number, with its `+`.
    pub fn whole(&self) -> Option<String> {
        self.is_whole.then(|| format!("+{}", self.digits))
    }

    fn end(&self, text: &str) -> bool {
        let caller = Caller::classify(text);
        let number = caller.number().map_or(text, |number| number.as_str());
        number.ends_with(&self.digits)
    }
}

/// As it may stand in a log.
impl std::fmt::Debug for Digits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} digits", self.digits.len())
    }
}

/// What the newest thousand calls of a person come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallerCalls {
    pub calls: i64,
    pub answered: i64,
    /// When the last one arrived, in milliseconds since the Unix epoch.
    pub last_at: Option<i64>,
    /// The dialer that last answered.
    pub last_dialer: Option<String>,
}

/// Who is in a row of `callers`, with their calls; `None` where nobody is, or nobody in particular.
pub(super) fn caller(
    reader: &RowReader<'_>,
    row: i64,
) -> Result<Option<(Caller, CallerCalls)>, StoreError> {
    let Some(who) = callers::at_row(reader, row)? else {
        return Ok(None);
    };
    let sql = "WITH newest AS (SELECT id, started_at, disposition, dialer FROM calls INDEXED BY idx_calls_caller_id
             WHERE caller_id = ?1 ORDER BY id DESC LIMIT 1000)
         SELECT count(*), count(*) FILTER (WHERE disposition = 'answered'), max(started_at),
             (SELECT dialer FROM newest WHERE disposition = 'answered' AND dialer IS NOT NULL ORDER BY id DESC LIMIT 1)
         FROM newest";
    let calls = reader.prepare_cached(sql)?.query_row([row], |row| {
        Ok(CallerCalls {
            calls: row.get(0)?,
            answered: row.get(1)?,
            last_at: row.get(2)?,
            last_dialer: row.get(3)?,
        })
    })?;
    Ok(Some((who, calls)))
}
