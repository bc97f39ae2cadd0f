//! Phone numbers as a carrier writes them.

/// What stands in place of a hidden number: digits that spell a word on a keypad, a word, or nothing.
pub(crate) const WITHHELD: [&str; 9] = [
    "+266696687",
    "+7378742833",
    "+2562533",
    "+8656696",
    "+86282452253",
    "anonymous",
    "Restricted",
    "unavailable",
    "",
];

/// Whether this is a `+` and 7 to 15 digits, the first not zero (ITU-T E.164).
pub(crate) fn is_e164(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && !digits.starts_with('0')
    })
}

/// Whether the carrier shows the caller's number.
pub(crate) fn is_shown(from: &str) -> bool {
    is_e164(from) && !WITHHELD.contains(&from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_number_may_look_like_one() {
        assert!(is_shown("+4930123456"));
        assert!(is_e164("+266696687") && !is_shown("+266696687"));
        for text in ["", "+0123456789", "+123456", "4930123456", "+49 30123456"] {
            assert!(!is_e164(text), "{text}");
        }
    }
}
