//! `application/x-www-form-urlencoded` as Twilio signs it: bytes in, bytes out.
//!
//! The signature covers the decoded fields, so nothing may be repaired on the way: blanks stay, edge spaces stay, a byte that is not UTF-8
//! stays, a percent sign without two digits behind it stays. Only a reader of [`Form::text`] sees replacement characters.

use std::borrow::Cow;
use std::fmt;

/// The fields of a form or of a query, decoded, in the order received.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Form(Vec<Field>);

/// A name and its value, decoded.
type Field = (Box<[u8]>, Box<[u8]>);

impl Form {
    /// Reads a form body or a query (without its `?`). Every input is a form; what is not understood is kept as it stands.
    pub fn parse(encoded: &[u8]) -> Self {
        let fields = encoded
            .split(|byte| *byte == b'&')
            .filter(|field| !field.is_empty())
            .map(|field| {
                let mut parts = field.splitn(2, |byte| *byte == b'=');
                let name = parts.next().unwrap_or_default();
                let value = parts.next().unwrap_or_default();
                (decode(name), decode(value))
            })
            .collect();
        Self(fields)
    }

    /// The fields as bytes, in the order received.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The first value of a field as text, as received; bytes that are not UTF-8 become replacement characters.
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.fields()
            .find(|(field, _)| *field == name.as_bytes())
            .map(|(_, value)| String::from_utf8_lossy(value))
    }

    /// The names of the fields, in the order received.
    pub fn names(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.fields().map(|(name, _)| String::from_utf8_lossy(name))
    }
}

/// Shows names only: the values are personal data.
impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Form")?;
        f.debug_list().entries(self.names()).finish()
    }
}

fn decode(encoded: &[u8]) -> Box<[u8]> {
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match (first, tail) {
            (b'+', _) => decoded.push(b' '),
            (b'%', [high, low, after @ ..]) => {
                if let (Some(high), Some(low)) = (digit(*high), digit(*low)) {
                    decoded.push(high << 4 | low);
                    rest = after;
                } else {
                    decoded.push(b'%');
                }
            }
            (other, _) => decoded.push(*other),
        }
    }
    decoded.into_boxed_slice()
}

/// The value of a hexadecimal digit.
fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Fields<'a> = &'a [(&'a [u8], &'a [u8])];

    #[test]
    fn fields_are_read_as_they_were_signed() {
        let cases: [(&[u8], Fields<'_>); 13] = [
            (b"", &[]),
            (b"&&", &[]),
            (b"a=1&b=2", &[(b"a", b"1"), (b"b", b"2")]),
            (b"b=2&a=1&b=2", &[(b"b", b"2"), (b"a", b"1"), (b"b", b"2")]),
            (b"ToZip=&ToCity", &[(b"ToZip", b""), (b"ToCity", b"")]),
            (b"=v", &[(b"", b"v")]),
            (b"a=b=c", &[(b"a", b"b=c")]),
            (
                b"City=SAN+FRANCISCO&C=NEW%20YORK",
                &[(b"City", b"SAN FRANCISCO"), (b"C", b"NEW YORK")],
            ),
            (b"From=%2B14155550100+", &[(b"From", b"+14155550100 ")]),
            (
                b"a=%&b=%4&c=%zz&d=100%",
                &[(b"a", b"%"), (b"b", b"%4"), (b"c", b"%zz"), (b"d", b"100%")],
            ),
            (b"a=%FF%fe&b=\xff", &[(b"a", b"\xff\xfe"), (b"b", b"\xff")]),
            (b"a=%257B%2522", &[(b"a", b"%7B%22")]),
            (b"a=1;b=2", &[(b"a", b"1;b=2")]),
        ];
        for (encoded, expected) in cases {
            let form = Form::parse(encoded);
            assert_eq!(
                form.fields().collect::<Vec<_>>(),
                expected,
                "{}",
                encoded.escape_ascii()
            );
        }
    }

    #[test]
    fn text_is_the_first_value_and_lossy_only_when_read() {
        let form = Form::parse(b"a=%FFx&a=second&empty=&Name=S%C3%A3o");
        assert_eq!(form.text("a").as_deref(), Some("\u{fffd}x"));
        assert_eq!(form.text("Name").as_deref(), Some("São"));
        assert_eq!(form.text("empty").as_deref(), Some(""));
        assert_eq!(form.text("name"), None);
    }

    #[test]
    fn debug_shows_no_value() {
        let form = Form::parse(b"From=%2B14155550100&CallSid=CA1");
        assert_eq!(format!("{form:?}"), r#"Form["From", "CallSid"]"#);
    }

    proptest! {
        #![proptest_config(crate::property::seeded())]

        #[test]
        fn every_input_is_a_form(encoded in proptest::collection::vec(any::<u8>(), 0..300)) {
            let form = Form::parse(&encoded);
            prop_assert!(form.fields().len() <= encoded.len());
        }

        #[test]
        fn what_is_escaped_comes_back(name in proptest::collection::vec(any::<u8>(), 0..40), value in proptest::collection::vec(any::<u8>(), 0..40)) {
            let escape = |bytes: &[u8]| bytes.iter().map(|b| format!("%{b:02x}")).collect::<Vec<_>>().concat();
            let form = Form::parse(format!("{}={}", escape(&name), escape(&value)).as_bytes());
            prop_assert_eq!(form.fields().collect::<Vec<_>>(), [(&*name, &*value)]);
        }
    }
}
