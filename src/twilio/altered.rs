//! What somebody on the way may have made of a request that was signed: each guess is the request as it was before.

use super::form::Form;
use super::signature::{SignedRequest, sorted_fields};
use super::signed_url::split_query;

/// Fields that are looked at one by one; as many characters of a name are shown.
const MOST: usize = 64;
/// Endings of the names of fields that often stand empty.
const EMPTY: [&str; 3] = ["City", "State", "Zip"];

/// How the signed request differs, in words; the target that was asked for then, and its sorted fields.
pub(super) type AlteredRequest = (String, String, Vec<u8>);

/// Every guess, most likely first.
pub(super) fn altered(request: &SignedRequest<'_>) -> Vec<AlteredRequest> {
    let (target, form) = (request.path_and_query, request.form);
    let (path, query) = split_query(target);
    let pieces = query.trim_start_matches('?');
    let fields: Vec<(&[u8], Vec<u8>)> = form
        .fields()
        .map(|(name, value)| (name, value.to_vec()))
        .collect();
    let sorted = |fields: &[(&[u8], Vec<u8>)]| {
        sorted_fields(fields.iter().map(|(name, value)| (*name, &**value)))
    };
    let mut bodies = Vec::new();
    let places =
        ["Called", "Caller", "From", "To"].map(|who| EMPTY.map(|what| format!("{who}{what}")));
    let mut full = fields.clone();
    for place in places.iter().flatten() {
        if form.text(place).is_none() {
            full.push((place.as_bytes(), Vec::new()));
        }
    }
    bodies.push(("empty fields that did not arrive".to_owned(), full));
    let each = |change: &dyn Fn(&[u8]) -> Vec<u8>| {
        let changed = fields.iter().map(|(name, value)| (*name, change(value)));
        changed.collect::<Vec<_>>()
    };
    let plus = |value: &[u8]| {
        String::from_utf8_lossy(value)
            .replace(' ', "+")
            .into_bytes()
    };
    bodies.push(("plus signs where blanks arrived".to_owned(), each(&plus)));
    bodies.push(("another character set".to_owned(), each(&from_latin_1)));
    for (idx, (name, value)) in fields.iter().enumerate().take(MOST) {
        let name: String = String::from_utf8_lossy(name).chars().take(MOST).collect();
        let mut others = fields.clone();
        others.remove(idx);
        bodies.push((format!("no field {name} of this value"), others.clone()));
        for padded in [[value, &b" "[..]].concat(), [b" ", &**value].concat()] {
            let mut padding = others.clone();
            padding.extend(fields.get(idx).map(|(name, _)| (*name, padded)));
            bodies.push((format!("a blank at an end of {name}"), padding));
        }
    }
    let of_body = bodies
        .iter()
        .map(|(how, fields)| (how.clone(), target.to_owned(), sorted(fields)));
    let as_received = sorted(&fields);
    let same_fields = |how: &str, target: String| (how.to_owned(), target, as_received.clone());
    let queries = other_queries(pieces).into_iter();
    let of_query = queries.map(|(how, query)| same_fields(how, format!("{path}?{query}")));
    let (_, rest) = path
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or_default();
    let of_path = [
        same_fields("a path without its first part", format!("/{rest}{query}")),
        same_fields("one more slash before the path", format!("/{target}")),
        same_fields(
            "the path without its escapes",
            format!("{}{query}", decoded(path)),
        ),
    ];
    let body = String::from_utf8_lossy(request.body);
    let gap = if query.is_empty() { '?' } else { '&' };
    let form = sorted_fields(Form::parse(pieces.as_bytes()).fields());
    let of_method = [
        (
            "GET for its method".to_owned(),
            format!("{target}{gap}{body}"),
            Vec::new(),
        ),
        ("POST for its method".to_owned(), path.to_owned(), form),
    ];
    of_body
        .chain(of_query)
        .chain(of_path)
        .chain(of_method)
        .collect()
}

/// The same query in other orders and other spellings.
fn other_queries(query: &str) -> Vec<(&'static str, String)> {
    let received: Vec<&str> = query.split('&').collect();
    let mut ascending = received.clone();
    ascending.sort_unstable();
    let backwards = |pairs: &[&str]| pairs.iter().rev().copied().collect::<Vec<_>>().join("&");
    let orders = [
        backwards(&received),
        backwards(&ascending),
        ascending.join("&"),
    ];
    let mut parts = query.split('%');
    let start = parts.next().unwrap_or_default().to_owned();
    let lower = parts.fold(start, |so_far, part| match part.split_at_checked(2) {
        Some((hex, rest)) => format!("{so_far}%{}{rest}", hex.to_ascii_lowercase()),
        None => format!("{so_far}%{part}"),
    });
    let spellings = [
        query.replace("%20", "+"),
        query.replace('+', "%20"),
        query.replace('+', "%2B"),
        lower,
        decoded(query),
        query
            .replace(':', "%3A")
            .replace('@', "%40")
            .replace('/', "%2F"),
    ];
    let orders = orders.map(|query| ("the query in another order", query));
    let spellings = spellings.map(|query| ("other escapes in the query", query));
    orders.into_iter().chain(spellings).collect()
}

/// Without its escapes, but for those of what would then divide it otherwise.
fn decoded(text: &str) -> String {
    let kept = text
        .replace('+', "%2B")
        .replace("%26", "%2526")
        .replace("%3D", "%253D");
    let whole = Form::parse(kept.replace('&', "%26").replace('=', "%3D").as_bytes());
    whole.names().next().unwrap_or_default().into_owned()
}

fn from_latin_1(value: &[u8]) -> Vec<u8> {
    let text: String = value.iter().map(|byte| char::from(*byte)).collect();
    text.into_bytes()
}
