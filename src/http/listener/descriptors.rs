//! How many connections the system lets this process have.
//!
//! A cap above the descriptor limit is no cap: the store, the log and the calls to dialers would be the ones to find no
//! descriptor left, and the listener would never think itself crowded.

/// Descriptors that connections of strangers must leave for the rest: the store, the log, the calls we make ourselves.
const RESERVE: usize = 32;

/// The cap that fits the limit of this process: three quarters of it, less than that if the reserve needs it.
pub(super) fn fitting(connections: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    match open_files(&limits) {
        Some(limit) => connections.min(share_of(limit)),
        None => connections,
    }
}

fn share_of(limit: usize) -> usize {
    (limit / 4 * 3).min(limit.saturating_sub(RESERVE)).max(1)
}

/// The soft limit of open files, if there is one.
fn open_files(limits: &str) -> Option<usize> {
    limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_read_where_there_is_one() {
        let limits = |soft: &str| {
            format!(
                "Limit                     Soft Limit           Hard Limit           Units\n\
                 Max processes             63432                63432                processes\n\
                 Max open files            {soft}                 524288               files\n"
            )
        };
        assert_eq!(open_files(&limits("1024")), Some(1024));
        assert_eq!(open_files(&limits("unlimited")), None);
        assert_eq!(open_files(""), None);
    }

    #[test]
    fn a_reserve_is_kept_however_low_the_limit_is() {
        assert_eq!(share_of(20_000), 15_000);
        assert_eq!(share_of(1_024), 768);
        assert_eq!(share_of(64), 32);
        assert_eq!(share_of(16), 1);
    }

    #[test]
    fn the_cap_is_never_raised() {
        assert_eq!(fitting(1), 1);
    }
}
