//! Lists: which part is asked for, and the envelope it comes in.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::fields::CheckedFields;
use crate::store::{CallPlace, Part, Rows};

const DEFAULT_SIZE: u32 = 50;
const MAX_SIZE: u32 = 200;
/// Rows before a page are read and passed over; what lies further back is reached by cursor.
const MAX_PAGE: u32 = 1_000;

/// The parameters that [`PageRequest::read`] reads, for the document.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct PageParams {
    /// Which page, from 1. Without meaning beside a cursor.
    #[param(minimum = 1, maximum = 1000, example = 1)]
    page: Option<u32>,
    /// Rows of a page.
    #[param(minimum = 1, maximum = 200, example = 50)]
    page_size: Option<u32>,
    /// Goes on where another page ended: its `next_cursor`.
    #[param(pattern = "^[0-9a-f]{32}$")]
    cursor: Option<String>,
}

/// The answer with one thing.
pub(super) fn data<T: Serialize>(data: T) -> Response {
    Json(Data { data }).into_response()
}

/// Which part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageRequest<P> {
    number: u32,
    size: u32,
    after: Option<P>,
}

/// The place of a row, as a cursor carries it.
pub(super) trait Cursor: Copy {
    fn numbers(self) -> [i64; 2];
    fn of_numbers(numbers: [i64; 2]) -> Self;
}

impl Cursor for CallPlace {
    fn numbers(self) -> [i64; 2] {
        [self.started_at, self.row]
    }
    fn of_numbers([started_at, row]: [i64; 2]) -> Self {
        Self { started_at, row }
    }
}

impl Cursor for i64 {
    fn numbers(self) -> [i64; 2] {
        [0, self]
    }
    fn of_numbers([_, id]: [i64; 2]) -> Self {
        id
    }
}

fn cursor(text: &str) -> Option<[i64; 2]> {
    let mut bytes = [0; 16];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    let (first, second) = bytes.split_first_chunk()?;
    let second = second.first_chunk()?;
    Some([*first, *second].map(i64::from_be_bytes))
}

fn cursor_text(numbers: [i64; 2]) -> String {
    hex::encode(numbers.map(i64::to_be_bytes).concat())
}

impl<P: Cursor> PageRequest<P> {
    /// The part that a query asks for.
    pub(super) fn read(fields: &mut CheckedFields) -> Self {
        let number = fields.number("page", 1..=MAX_PAGE);
        let size = fields.number("page_size", 1..=MAX_SIZE);
        let after = fields.read("cursor", |text| {
            cursor(text)
                .map(P::of_numbers)
                .ok_or_else(|| "must be the next_cursor of another page".to_owned())
        });
        Self {
            number: number.unwrap_or(1),
            size: size.unwrap_or(DEFAULT_SIZE),
            after,
        }
    }

    /// As the store is asked for it.
    pub(super) fn part(self) -> Part<P> {
        let before = self.number.saturating_sub(1).saturating_mul(self.size);
        Part {
            after: self.after,
            skip: if self.after.is_some() { 0 } else { before },
            size: self.size,
        }
    }

    /// The answer with this page of a list.
    pub(super) fn list<T, R: Serialize>(
        self,
        rows: Rows<T, P>,
        shown: impl FnMut(T) -> R,
    ) -> Response {
        let mut rows = rows;
        let data = std::mem::take(&mut rows.rows);
        let data = data.into_iter().map(shown).collect();
        Json(self.document(&rows, data)).into_response()
    }

    /// This page of a list, whose rows are shown so.
    pub(super) fn document<T, R>(self, rows: &Rows<T, P>, data: Vec<R>) -> List<R> {
        List {
            total: rows.total,
            total_is_exact: rows.total_is_exact,
            page: self.number,
            page_size: self.size,
            next_cursor: rows.next.map(|place| cursor_text(place.numbers())),
            data,
        }
    }
}

/// A whole list on one page.
pub(super) fn whole<T: Serialize>(data: Vec<T>) -> Response {
    let total = i64::try_from(data.len()).unwrap_or(i64::MAX);
    let page_size = DEFAULT_SIZE.max(u32::try_from(data.len()).unwrap_or(u32::MAX));
    Json(List {
        data,
        total,
        total_is_exact: true,
        page: 1,
        page_size,
        next_cursor: None,
    })
    .into_response()
}

/// A part of a list.
#[derive(Serialize, ToSchema)]
pub(super) struct List<T> {
    /// The rows, newest first.
    data: Vec<T>,
    /// How many there are in all.
    #[schema(minimum = 0)]
    total: i64,
    /// False where counting all would take too long: `total` is then a lower bound, or an estimate by row numbers.
    total_is_exact: bool,
    /// Which page.
    page: u32,
    /// Rows of a page.
    page_size: u32,
    /// For the next page; null at the end. A page may be short and still have one, where a filter fits few rows.
    next_cursor: Option<String>,
}

/// One thing, in the envelope of the API.
#[derive(Serialize, ToSchema)]
pub(super) struct Data<T> {
    /// The thing.
    pub(super) data: T,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_or_refused() {
        let page = |page: Option<&str>, page_size: Option<&str>| {
            let given = [("page", page), ("page_size", page_size)];
            let given = given
                .into_iter()
                .filter_map(|(name, text)| Some((name, text?)));
            let mut fields = CheckedFields::of_query(given);
            let page = PageRequest::<i64>::read(&mut fields);
            fields.verdict().is_ok().then_some((page.number, page.size))
        };
        assert_eq!(page(None, None), Some((1, 50)));
        assert_eq!(page(Some("1000"), Some("200")), Some((1000, 200)));
        for wrong in ["0", "-1", "x", "", "1.5", "+1", "99999999999"] {
            assert_eq!(page(Some(wrong), None), None, "{wrong}");
            assert_eq!(page(None, Some(wrong)), None, "{wrong}");
        }
        assert_eq!(page(None, Some("201")), None);
        assert_eq!(page(Some("1001"), None), None);
    }

    #[test]
    fn a_cursor_names_a_place_and_nothing_else_is_one() {
        for numbers in [[0, 1], [1_790_000_000_000, 42], [i64::MIN, i64::MAX]] {
            assert_eq!(cursor(&cursor_text(numbers)), Some(numbers));
        }
        for wrong in ["", "x", "00", "zz", &"0".repeat(31), &"0".repeat(33)] {
            assert_eq!(cursor(wrong), None, "{wrong}");
        }
    }
}
