//! Durations as the file writes them: `"1500ms"`, `"2s"`, `"5m"`, `"1h"`, `"90d"`.

use std::time::Duration;

const UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Reads a duration as the file writes it: a whole number and a unit. `None` for anything else, also for more milliseconds than fit 64 bits.
pub fn parse(text: &str) -> Option<Duration> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(digits_end);
    let number: u64 = digits.parse().ok()?;
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.checked_mul(*factor).map(Duration::from_millis)
}

/// The duration in its largest unit that divides it: `1500ms`, `20s`, `90d`.
pub(super) fn render(duration: Duration) -> String {
    let ms = duration.as_millis();
    let (unit, factor) = UNITS
        .iter()
        .rev()
        .find(|(_, factor)| ms > 0 && ms.is_multiple_of(u128::from(*factor)))
        .unwrap_or(&("ms", 1));
    format!("{}{unit}", ms / u128::from(*factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_numbers_with_a_unit() {
        for (text, ms) in [
            ("1500ms", 1_500),
            ("2s", 2_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("90d", 7_776_000_000),
            ("10 s", 10_000),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            "5",
            "s",
            "1.5s",
            "-1s",
            "1S",
            "5min",
            "1h30m",
            " 5s",
            "99999999999999999999d",
            "9999999999999999d",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn durations_are_shown_in_their_largest_unit() {
        for text in ["1500ms", "2s", "5m", "1h", "90d", "90s", "0ms"] {
            assert_eq!(render(parse(text).unwrap()), text);
        }
    }
}
