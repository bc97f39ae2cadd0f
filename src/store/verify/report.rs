//! From what was found to what is told: whose signatures count, and what the heads kept elsewhere say.

use super::evidence::{Against, Evidence};
use crate::audit::{
    FindingKind, Findings, KeyRecord, Kind, PublicKey, SecretRotated, SignedTreeHead,
    SigningKeyNamed, VerifyReport, Walked,
};
use crate::store::secrets;

pub(super) fn make(against: &Against, mut evidence: Evidence, mut walked: Walked) -> VerifyReport {
    evidence
        .findings
        .append(std::mem::take(&mut walked.findings));
    if evidence.checkpoints == 0 && walked.rows > 0 {
        let what = "there is no checkpoint: nothing signed vouches for these records";
        evidence.wrong(FindingKind::CheckpointInvalid, what);
    }
    let timeline = timeline(&walked, &mut evidence.findings);
    let is_vouched = judge_vouches(against, &timeline, &walked, &mut evidence.findings);
    let agrees = judge_keys(against, &timeline, is_vouched, &mut evidence);
    let key_is_trusted = agrees && (against.key.is_some() || is_vouched);
    if !key_is_trusted && against.key.is_none() && against.key_beside.is_some() {
        evidence.remarks.push("no key is trusted: the one beside the database vouches for nothing by itself, since whoever can write the database can have put it there; name one that was kept elsewhere".to_owned());
    }
    judge_absent_head(against, &mut evidence);
    let newest = evidence.signed.last();
    let key = newest.map(|(_, _, key)| key.to_line());
    let signed = newest.map_or(0, |(_, size, _)| *size);
    if walked.last > signed && evidence.findings.is_empty() {
        evidence.remarks.push(format!(
            "the last {} records are not signed yet",
            walked.last - signed.max(evidence.pruning)
        ));
    }
    if let Some(kept) = evidence.kept.take() {
        judge_head(&kept, FindingKind::RolledBack, &walked, &mut evidence);
    }
    if let Some(anchor) = &against.anchor {
        judge_anchor_signature(anchor, against, &timeline, &mut evidence.findings);
        judge_head(anchor, FindingKind::AnchorMismatch, &walked, &mut evidence);
        if i64::try_from(anchor.records).is_ok_and(|records| records < evidence.pruning) {
            evidence.remarks.push(format!(
                "the anchor is about {} records, and all of them are pruned: it says nothing of those that are there",
                anchor.records
            ));
        }
    }
    VerifyReport {
        ok: evidence.findings.is_empty(),
        records: walked.rows,
        not_listed: evidence.findings.more(),
        log_id: evidence.log_id,
        oldest: walked.first_row,
        last: walked.last,
        head: walked.head.map(hex::encode),
        signed,
        key,
        key_is_trusted,
        remarks: evidence.remarks,
        findings: evidence.findings.into_list(),
    }
}

/// In place, a head must lie beside the log as soon as it is signed. A copy has none.
fn judge_absent_head(against: &Against, evidence: &mut Evidence) {
    let unreadable = evidence.kept_unreadable.take();
    let unreadable =
        unreadable.map(|why| format!("the head beside the database cannot be read: {why}"));
    if !against.is_in_place() {
        evidence.remarks.extend(unreadable);
    } else if evidence.kept.is_none() && (unreadable.is_some() || evidence.checkpoints > 0) {
        let what = unreadable.unwrap_or_else(|| "the log is signed, and there is no head beside the database: it may be an older one that was put back".to_owned());
        evidence.wrong(FindingKind::HeadMissing, what);
    }
}

/// Whether the installation's secret vouches for every key that the log names; whether that counts. Where the secret took the log over from
/// another, it vouches for all that came before.
fn judge_vouches(
    against: &Against,
    timeline: &[Named],
    walked: &Walked,
    found: &mut Findings,
) -> bool {
    let Some(installation) = &against.installation else {
        return false;
    };
    let key_ring = &installation.key_ring;
    let taken_over = walked.keys.iter().rev().find(|record| {
        let rotated = serde_json::from_str::<SecretRotated>(&record.detail);
        record.kind == Kind::SecretRotated
            && rotated.is_ok_and(|rotated| {
                secrets::has_vouched(key_ring, &record.previous_hash, &rotated.vouch)
            })
    });
    let taken_over = taken_over.map_or(0, |record| record.record);
    let mut all = !timeline.is_empty();
    for named in timeline.iter().filter(|named| named.record > taken_over) {
        if !key_ring.has_vouched_for_key(&named.key.to_line(), named.vouch.as_deref()) {
            all = false;
            let what = format!(
                "record {} names a key for which the installation's secret does not vouch: a stranger may have signed the log anew",
                named.record
            );
            found.add(FindingKind::CheckpointInvalid, named.record, what);
        }
    }
    all && installation.is_secret_elsewhere
}

/// A key from the record on that names it.
struct Named {
    record: i64,
    key: PublicKey,
    previous: Option<PublicKey>,
    is_endorsed: bool,
    vouch: Option<String>,
}

fn timeline(walked: &Walked, found: &mut Findings) -> Vec<Named> {
    let mut timeline = Vec::new();
    let named = |record: &&KeyRecord| record.kind == Kind::SigningKeyNamed;
    for key_record in walked.keys.iter().filter(named) {
        let named: Option<SigningKeyNamed> = serde_json::from_str(&key_record.detail).ok();
        let key = named
            .as_ref()
            .and_then(|named| PublicKey::from_line(&named.key));
        let Some((named, key)) = named.zip(key) else {
            let what = format!("record {} names no key that can be read", key_record.record);
            found.add(FindingKind::CheckpointInvalid, key_record.record, what);
            continue;
        };
        let previous = named.previous.as_deref().and_then(PublicKey::from_line);
        let said = previous.as_ref().zip(named.endorsement.as_deref());
        timeline.push(Named {
            record: key_record.record,
            is_endorsed: said.is_some_and(|(previous, said)| previous.has_endorsed(&key, said)),
            key,
            previous,
            vouch: named.vouch,
        });
    }
    timeline
}

/// The key that signs a log of that size.
fn in_force(timeline: &[Named], size: i64) -> Option<&PublicKey> {
    let named = timeline.iter().rev().find(|named| named.record <= size);
    match (named, timeline.first()) {
        (Some(named), _) => Some(&named.key),
        (None, Some(first)) => Some(first.previous.as_ref().unwrap_or(&first.key)),
        (None, None) => None,
    }
}

/// Whether every checkpoint was signed by a key whose signature counts; whether that is known from elsewhere.
fn judge_keys(
    against: &Against,
    timeline: &[Named],
    is_vouched: bool,
    evidence: &mut Evidence,
) -> bool {
    let (signed, found) = (&evidence.signed, &mut evidence.findings);
    let remarks = &mut evidence.remarks;
    for (id, size, key) in signed {
        if in_force(timeline, *size).is_some_and(|named| named != key) {
            let what = format!(
                "checkpoint {id} over {size} records is signed by another key than the log names for it"
            );
            found.add(FindingKind::CheckpointInvalid, None, what);
        }
    }
    let Some(trusted) = against.known_key() else {
        if !is_vouched {
            remarks.push("no key is trusted: the signatures were checked against the key that the file itself names".to_owned());
        }
        return is_vouched;
    };
    let from = timeline.iter().position(|named| named.key == *trusted);
    let first_is_next = timeline
        .first()
        .is_some_and(|first| first.previous.as_ref() == Some(trusted));
    let Some(newest) = signed.last() else {
        return false;
    };
    let begin = match (from, first_is_next) {
        (Some(from), _) => from + 1,
        (None, true) => 0,
        (None, false) => {
            if newest.2 != *trusted {
                let what = format!(
                    "the log is signed by {}, and that is not the key that is trusted",
                    newest.2.to_line()
                );
                found.add(FindingKind::CheckpointInvalid, None, what);
            }
            return newest.2 == *trusted;
        }
    };
    let mut current = trusted;
    for named in timeline.get(begin..).unwrap_or_default() {
        if named.key == *current {
            continue;
        }
        if !(named.is_endorsed && named.previous.as_ref() == Some(current)) {
            let what = format!(
                "record {} names another key, and the key before did not say so",
                named.record
            );
            found.add(FindingKind::CheckpointInvalid, named.record, what);
            return false;
        }
        current = &named.key;
    }
    for (before, named) in timeline
        .iter()
        .zip(timeline.iter().skip(1))
        .take(begin.saturating_sub(1))
    {
        if named.key != before.key && !named.is_endorsed {
            remarks.push(format!(
                "record {} names another key without the word of the one before: what was signed earlier is vouched for by later signatures only",
                named.record
            ));
        }
    }
    true
}

/// Whether the log goes on from a head that was kept. `other` is what a log is that has another record in its place.
fn judge_head(head: &SignedTreeHead, other: FindingKind, walked: &Walked, evidence: &mut Evidence) {
    let (log_id, found) = (&evidence.log_id, &mut evidence.findings);
    let name = if other == FindingKind::AnchorMismatch {
        "the anchor"
    } else {
        "the head beside the database"
    };
    if head.log_id != *log_id {
        let what = format!("{name} is of log {}, and this is log {log_id}", head.log_id);
        found.add(other, None, what);
        return;
    }
    let records = i64::try_from(head.records).unwrap_or(i64::MAX);
    if records < evidence.pruning || records == 0 {
        return;
    }
    if records > walked.last {
        // Where a checkpoint in the file tells of them too, the file itself says what happened.
        if !found.has(FindingKind::Truncated) && !found.has(FindingKind::RolledBack) {
            let what = format!(
                "{name} tells of {records} records, and there are {}: the file is an older one, or its end was cut with all that was signed over it",
                walked.last
            );
            found.add(FindingKind::RolledBack, walked.last + 1, what);
        }
        return;
    }
    if found.about(records) {
        return;
    }
    let mut watched = walked.watched.iter();
    let there = watched.find_map(|(record, hash)| hash.filter(|_| *record == records));
    if there.is_some() && there != head.hash() {
        let what = format!(
            "record {records} is not the one that {name} tells of: the log was rewritten, or the file is an older one that was written on"
        );
        found.add(other, records, what);
    }
}

/// An anchor with a signature must be signed by a key that counts.
fn judge_anchor_signature(
    anchor: &SignedTreeHead,
    against: &Against,
    timeline: &[Named],
    found: &mut Findings,
) {
    if anchor.note.is_empty() {
        return;
    }
    let named = timeline
        .iter()
        .flat_map(|named| [Some(&named.key), named.previous.as_ref()]);
    let mut keys = against.known_key().into_iter().chain(named.flatten());
    if !keys.any(|key| anchor.statement(key).is_some()) {
        let what = "the anchor is not signed by a key of this log";
        found.add(FindingKind::AnchorMismatch, None, what);
    }
}
