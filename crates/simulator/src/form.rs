//! Form fields as they stand on the wire. The stand-ins encode and decode on their own, so that a mistake in the product's
//! reader cannot hide behind the same mistake here.

/// How a space is written: Twilio's voice requests use `+`, its status callbacks `%20`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spaces {
    Plus,
    Percent,
}

/// Writes the fields as `application/x-www-form-urlencoded`, in the order given.
pub(super) fn encode(fields: &[(String, String)], spaces: Spaces) -> String {
    let mut out = String::with_capacity(fields.len() * 24);
    for (name, value) in fields {
        if !out.is_empty() {
            out.push('&');
        }
        encode_into(&mut out, name, spaces);
        out.push('=');
        encode_into(&mut out, value, spaces);
    }
    out
}

fn encode_into(out: &mut String, text: &str, spaces: Spaces) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                out.push(char::from(byte));
            }
            b' ' if spaces == Spaces::Plus => out.push('+'),
            _ => {
                out.push('%');
                for digit in [byte >> 4, byte & 15] {
                    let digit = char::from_digit(u32::from(digit), 16);
                    out.extend(digit.map(|digit| digit.to_ascii_uppercase()));
                }
            }
        }
    }
}

/// Reads a form or a query; bytes that are not UTF-8 become replacement characters.
pub(super) fn decode(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decode(name, true), percent_decode(value, true))
        })
        .collect()
}

/// Decodes `%41`; with `plus_is_space`, `+` too. A broken escape stays as it stands.
pub(super) fn percent_decode(text: &str, plus_is_space: bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match (byte, tail) {
            (b'%', [high, low, after @ ..]) => match (hex_digit(*high), hex_digit(*low)) {
                (Some(high), Some(low)) => {
                    out.push(high * 16 + low);
                    rest = after;
                }
                _ => out.push(byte),
            },
            (b'+', _) if plus_is_space => out.push(b' '),
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_survives_the_way_to_the_wire_and_back() {
        let fields = vec![
            ("From".to_owned(), "+4930123456".to_owned()),
            ("ToZip".to_owned(), String::new()),
            ("CalledCity".to_owned(), "São Paulo & 100 %".to_owned()),
        ];
        for spaces in [Spaces::Plus, Spaces::Percent] {
            assert_eq!(decode(&encode(&fields, spaces)), fields);
        }
        assert_eq!(
            encode(&fields, Spaces::Plus),
            "From=%2B4930123456&ToZip=&CalledCity=S%C3%A3o+Paulo+%26+100+%25"
        );
        assert!(encode(&fields, Spaces::Percent).contains("Paulo%20%26"));
    }

    #[test]
    fn a_broken_escape_stays_as_it_stands() {
        assert_eq!(percent_decode("100%", false), "100%");
        assert_eq!(percent_decode("%zz+%4", false), "%zz+%4");
    }
}
