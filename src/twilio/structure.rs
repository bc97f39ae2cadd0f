//! Whether a signed webhook fits together.
//!
//! Twilio signs the URL and, behind it, the names and values of the fields without a mark between them. A genuine
//! signature is therefore good for every other cut of the same text: a piece of a value may pass for a name, a piece of
//! the query for a field. So nothing is taken for the structure of a webhook that another cut could change: names and
//! ids have one form, what names the account and the call stands there once, and the call is the one that the signed
//! text names first.

use super::form::Form;
use super::signature::sorted_fields;
use crate::call::CallId;

/// At most so many fields in the query, and so many in the body; real webhooks have about 30.
pub(super) const MAX_FIELDS: usize = 200;

/// The longest name of a field, in bytes.
const MAX_NAME: usize = 64;
/// What the fields begin with that carry a SIP header, and how long their names may be.
const SIP_HEADER: (&[u8], usize) = (b"SipHeader_", 256);

const CALL_SID: &str = "CallSid";
/// Ids of other legs. They may be absent.
const OTHER_SIDS: [&str; 2] = ["ParentCallSid", "DialCallSid"];
/// `CA` and 32 hexadecimal digits.
const SID_LENGTH: usize = 34;

/// Why a signed webhook cannot be used. The caller gets the safe answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Flaw {
    /// More fields than any webhook has.
    #[error("the webhook has more than {MAX_FIELDS} fields")]
    TooManyFields,
    /// A name that no field of Twilio's has.
    #[error("the name of a field is not [A-Za-z][A-Za-z0-9_.-]*, or too long")]
    FieldName,
    #[error("the webhook has no AccountSid")]
    AccountSidMissing,
    #[error("the webhook has more than one AccountSid")]
    AccountSidRepeated,
    /// No `CallSid`, or an empty one.
    #[error("the webhook has no CallSid")]
    CallSidMissing,
    /// More than one `CallSid`, or more than one id of another leg under the same name.
    #[error("the webhook has more than one CallSid, ParentCallSid or DialCallSid")]
    CallSidRepeated,
    /// An id of a call that is none.
    #[error("a CallSid, ParentCallSid or DialCallSid is not CA and 32 hexadecimal digits")]
    CallSidOdd,
    /// The signed text names another call before the one that the fields name.
    #[error("the signed text can be cut so that it names another call")]
    Ambiguous,
    /// A request of a step of a call whose own query does not say which.
    #[error("the query of the callback URL has no usable step")]
    StepMissing,
    /// A status callback without a status of a call, as for a recording.
    #[error("the status callback names no status of a call")]
    StatusMissing,
    /// A report of a call that arrives where nothing is served.
    #[error("nothing is served at this path")]
    UnknownPath,
}

impl Flaw {
    /// The stable name, for counters.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// The parts of a signed webhook.
#[derive(Clone, Copy, Debug)]
pub(super) struct SignedParts<'a> {
    /// Path and query as received.
    pub(super) target: &'a str,
    pub(super) query: &'a Form,
    /// The fields of the body; `None` for a GET, whose fields are in the query.
    pub(super) body: Option<&'a Form>,
}

impl SignedParts<'_> {
    /// The account whose webhook it is.
    pub(super) fn account_sid(&self) -> Result<&[u8], Flaw> {
        match *self.values("AccountSid").as_slice() {
            [] => Err(Flaw::AccountSidMissing),
            [sid] => Ok(sid),
            _ => Err(Flaw::AccountSidRepeated),
        }
    }

    /// The call that it is about, where everything fits together.
    pub(super) fn call(&self) -> Result<CallId, Flaw> {
        let fields = self.body.unwrap_or(self.query);
        let body = self.body.map_or(0, |body| body.fields().len());
        if self.query.fields().len().max(body) > MAX_FIELDS {
            return Err(Flaw::TooManyFields);
        }
        if !fields.fields().all(|(name, _)| is_name(name)) {
            return Err(Flaw::FieldName);
        }
        let sid = match *self.values(CALL_SID).as_slice() {
            [] | [[]] => return Err(Flaw::CallSidMissing),
            [sid] => sid,
            _ => return Err(Flaw::CallSidRepeated),
        };
        for name in OTHER_SIDS {
            match *self.values(name).as_slice() {
                [] => {}
                [sid] if is_sid(sid) => {}
                [_] => return Err(Flaw::CallSidOdd),
                _ => return Err(Flaw::CallSidRepeated),
            }
        }
        let call = is_sid(sid)
            .then(|| {
                str::from_utf8(sid)
                    .ok()
                    .and_then(|sid| CallId::parse(sid).ok())
            })
            .flatten()
            .ok_or(Flaw::CallSidOdd)?;
        if self.is_first_named(sid) {
            Ok(call)
        } else {
            Err(Flaw::Ambiguous)
        }
    }

    /// Every value of this name, wherever it stands.
    fn values(&self, name: &str) -> Vec<&[u8]> {
        let body = self.body.into_iter().flat_map(Form::fields);
        self.query
            .fields()
            .chain(body)
            .filter(|(known, _)| *known == name.as_bytes())
            .map(|(_, value)| value)
            .collect()
    }

    /// Whether this is the call that the signed text names first. The text is the same for every cut, and so is that call.
    fn is_first_named(&self, sid: &[u8]) -> bool {
        let mut text = self.target.as_bytes().to_vec();
        text.extend(
            self.body
                .into_iter()
                .flat_map(|body| sorted_fields(body.fields())),
        );
        first_named(&text) == Some(sid)
    }
}

/// The first id of a call that follows `CallSid` at once, as in a body, or as a pair of a query.
fn first_named(text: &[u8]) -> Option<&[u8]> {
    let name = CALL_SID.as_bytes();
    text.windows(name.len())
        .enumerate()
        .filter(|(_, window)| *window == name)
        .find_map(|(at, _)| {
            let (before, after) = text.split_at_checked(at + name.len())?;
            let is_pair = matches!(before.iter().rev().nth(name.len()), Some(b'?' | b'&'));
            let value = match after.split_first() {
                Some((b'=', value)) if is_pair => value,
                _ => after,
            };
            value.get(..SID_LENGTH).filter(|sid| is_sid(sid))
        })
}

/// Whether this is an id of a call at Twilio.
pub(super) fn is_sid(value: &[u8]) -> bool {
    value.strip_prefix(b"CA").is_some_and(|digits| {
        digits.len() == SID_LENGTH - 2 && digits.iter().all(u8::is_ascii_hexdigit)
    })
}

fn is_name(name: &[u8]) -> bool {
    let (sip_header, sip_length) = SIP_HEADER;
    let longest = if name.starts_with(sip_header) {
        sip_length
    } else {
        MAX_NAME
    };
    name.len() <= longest
        && name.first().is_some_and(u8::is_ascii_alphabetic)
        && name
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(b))
}

/// How many fields a form or query has, without reading them.
pub(super) fn count_fields(encoded: &[u8]) -> usize {
    encoded
        .split(|byte| *byte == b'&')
        .filter(|field| !field.is_empty())
        .count()
}
