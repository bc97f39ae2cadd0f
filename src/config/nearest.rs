//! The known word that is nearest to a misspelt one.

/// The nearest of `known`, if one is near enough to be what was meant.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = plain(word);
    let tolerance = match word.chars().count() {
        0..=1 => return None,
        2..=4 => 1,
        5..=8 => 2,
        _ => 3,
    };
    known
        .into_iter()
        .map(|candidate| (distance(&word, &plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= tolerance)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Case and the choice between `-` and `_` are no difference.
fn plain(word: &str) -> String {
    word.to_ascii_lowercase().replace('-', "_")
}

/// How many characters must be inserted, left out, exchanged, or swapped with their neighbor.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous = None;
    for (row, from) in a.chars().enumerate() {
        let mut current = vec![row + 1];
        let mut left = None;
        for (column, &to) in b.iter().enumerate() {
            let at =
                |costs: &[usize], idx: usize| costs.get(idx).copied().unwrap_or(usize::MAX / 2);
            let mut cost = (at(&last, column) + usize::from(from != to))
                .min(at(&last, column + 1) + 1)
                .min(at(&current, column) + 1);
            if let (Some(previous), Some(left)) = (previous, left)
                && (previous, from) == (to, left)
            {
                cost = cost.min(at(&before_last, column.wrapping_sub(1)) + 1);
            }
            current.push(cost);
            left = Some(to);
        }
        before_last = std::mem::replace(&mut last, current);
        previous = Some(from);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_edits_and_swaps() {
        for (a, b, expected) in [
            ("budget", "budget", 0),
            ("budgt", "budget", 1),
            ("bugdet", "budget", 1),
            ("budgetts", "budget", 2),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn only_near_words_are_suggested() {
        let known = ["budget", "max_hold", "language", "to"];
        for (word, expected) in [
            ("budgt", Some("budget")),
            ("max-hold", Some("max_hold")),
            ("Language", Some("language")),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }
}
