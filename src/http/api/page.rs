//! Lists: which part is asked for, and the envelope it comes in.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::super::error::{ApiError, Kind};

const DEFAULT_SIZE: u32 = 50;
const MAX_SIZE: u32 = 200;
/// Rows that a page may lie behind: they are read and passed over.
const MAX_DEPTH: u32 = 10_000;

/// `?page=…&page_size=…` as it was typed.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    page: Option<String>,
    page_size: Option<String>,
}

/// One page of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    number: u32,
    size: u32,
}

impl Asked {
    pub(super) fn page(&self) -> Result<Page, ApiError> {
        let number = read(self.page.as_deref(), 1, MAX_DEPTH);
        let size = read(self.page_size.as_deref(), DEFAULT_SIZE, MAX_SIZE);
        let page = match (number, size) {
            (Some(number), Some(size)) => Page { number, size },
            (number, size) => {
                let mut error = ApiError::new(Kind::Validation, "The page cannot be read.");
                if number.is_none() {
                    error = error.with("page", format!("must be 1 to {MAX_DEPTH}"));
                }
                if size.is_none() {
                    error = error.with("page_size", format!("must be 1 to {MAX_SIZE}"));
                }
                return Err(error);
            }
        };
        if page.number.saturating_mul(page.size) > MAX_DEPTH {
            let error = ApiError::new(Kind::Validation, "The page lies too far back.");
            return Err(error.with(
                "page",
                format!("times page_size must be at most {MAX_DEPTH}"),
            ));
        }
        Ok(page)
    }
}

fn read(text: Option<&str>, default: u32, max: u32) -> Option<u32> {
    let Some(text) = text else {
        return Some(default);
    };
    text.parse().ok().filter(|n| (1..=max).contains(n))
}

impl Page {
    /// How many rows lie before its end.
    pub(super) fn depth(self) -> u32 {
        self.number.saturating_mul(self.size)
    }

    /// Its part of the rows that lie before its end.
    pub(super) fn cut<T>(self, rows: Vec<T>) -> impl Iterator<Item = T> {
        let before = self.depth().saturating_sub(self.size);
        rows.into_iter()
            .skip(usize::try_from(before).unwrap_or(usize::MAX))
    }

    /// The answer with this page of a list.
    pub(super) fn list<T: Serialize>(self, data: &[T], total: i64) -> Response {
        Json(List {
            data,
            total,
            page: self.number,
            page_size: self.size,
            next_cursor: None,
        })
        .into_response()
    }
}

/// A whole list on one page.
pub(super) fn whole<T: Serialize>(data: &[T]) -> Response {
    let page = Page {
        number: 1,
        size: DEFAULT_SIZE.max(u32::try_from(data.len()).unwrap_or(u32::MAX)),
    };
    page.list(data, i64::try_from(data.len()).unwrap_or(i64::MAX))
}

#[derive(Serialize)]
struct List<'a, T> {
    data: &'a [T],
    total: i64,
    page: u32,
    page_size: u32,
    next_cursor: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_or_refused() {
        let page = |page: Option<&str>, page_size: Option<&str>| {
            let asked = Asked {
                page: page.map(str::to_owned),
                page_size: page_size.map(str::to_owned),
            };
            asked.page().ok().map(|page| (page.number, page.size))
        };
        assert_eq!(page(None, None), Some((1, 50)));
        assert_eq!(page(Some("50"), Some("200")), Some((50, 200)));
        for wrong in ["0", "-1", "x", "", "1.5", "99999999999"] {
            assert_eq!(page(Some(wrong), None), None, "{wrong}");
            assert_eq!(page(None, Some(wrong)), None, "{wrong}");
        }
        assert_eq!(page(None, Some("201")), None);
        assert_eq!(page(Some("51"), Some("200")), None);
    }

    #[test]
    fn a_page_is_cut_from_the_rows_before_its_end() {
        let page = Page { number: 2, size: 3 };
        assert_eq!(page.depth(), 6);
        let rows: Vec<u32> = (0..5).collect();
        assert_eq!(page.cut(rows).collect::<Vec<_>>(), [3, 4]);
    }
}
