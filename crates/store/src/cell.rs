//! Reading rows that anybody may have written: SQLite keeps any type in any column. What doesn't fit is an error of that
//! row alone, and no query fails by it.

use sqlx::{Row as _, TypeInfo as _, ValueRef as _};

use crate::convert::clip;
use crate::dialect::Row;

/// Characters of a value that an error shows.
const SHOWN: usize = 60;

/// A row that can't be understood. It gives nothing, and it is not the same as no row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("table {table}, row {key}: {column} is {found}, and must be {wanted}")]
pub struct BadRow {
    pub table: &'static str,
    /// The row's first column, as far as it can be shown.
    pub key: String,
    pub column: &'static str,
    pub found: String,
    pub wanted: &'static str,
}

/// A row as it stands in the table, or why it can't be had.
pub type Raw<T> = std::result::Result<T, BadRow>;

/// A table that is edited by hand; its first column is what a row is known by.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [&'static str],
}

/// A row of such a table, its first column being number `first` of what was selected.
pub(crate) struct Cells<'r> {
    pub(crate) row: &'r Row,
    pub(crate) table: &'static Table,
    pub(crate) first: usize,
}

enum Cell {
    Null,
    Text(String),
    Number(i64),
    Other(&'static str),
}

impl Cell {
    fn describe(&self) -> String {
        match self {
            Self::Null => "NULL".into(),
            Self::Text(text) => format!("the text {:?}", clip(text, SHOWN)),
            Self::Number(number) => format!("the number {number}"),
            Self::Other(what) => (*what).into(),
        }
    }
}

impl Cells<'_> {
    pub(crate) fn text(&self, column: &'static str) -> Raw<String> {
        match self.cell(column) {
            Cell::Text(text) => Ok(text),
            other => Err(self.bad(column, &other, "text")),
        }
    }

    pub(crate) fn text_or_null(&self, column: &'static str) -> Raw<Option<String>> {
        match self.cell(column) {
            Cell::Text(text) => Ok(Some(text)),
            Cell::Null => Ok(None),
            other => Err(self.bad(column, &other, "text or NULL")),
        }
    }

    pub(crate) fn flag(&self, column: &'static str) -> Raw<bool> {
        match self.cell(column) {
            Cell::Number(0) => Ok(false),
            Cell::Number(1) => Ok(true),
            other => Err(self.bad(column, &other, "TRUE or FALSE (1 or 0, without quotes)")),
        }
    }

    pub(crate) fn id(&self, column: &'static str) -> Raw<u64> {
        match self.cell(column) {
            Cell::Number(number) if number > 0 => Ok(number.unsigned_abs()),
            other => Err(self.bad(column, &other, "a number above 0")),
        }
    }

    pub(crate) fn number_or_null(&self, column: &'static str) -> Raw<Option<u64>> {
        match self.cell(column) {
            Cell::Number(number) if number >= 0 => Ok(Some(number.unsigned_abs())),
            Cell::Null => Ok(None),
            other => Err(self.bad(column, &other, "a whole number from 0, or NULL")),
        }
    }

    pub(crate) fn uid_or_null(&self, column: &'static str) -> Raw<Option<u32>> {
        match self.cell(column) {
            Cell::Null => Ok(None),
            Cell::Number(number) if u32::try_from(number).is_ok() => Ok(u32::try_from(number).ok()),
            other => Err(self.bad(column, &other, "a uid, or NULL")),
        }
    }

    fn cell(&self, column: &str) -> Cell {
        self.table.columns.iter().position(|c| *c == column).map_or(Cell::Null, |n| self.at(self.first + n))
    }

    fn at(&self, index: usize) -> Cell {
        const UNREADABLE: Cell = Cell::Other("unreadable");
        let Ok(raw) = self.row.try_get_raw(index) else { return UNREADABLE };
        if raw.is_null() {
            return Cell::Null;
        }
        match raw.type_info().name() {
            "TEXT" => self.row.try_get_unchecked(index).map_or(Cell::Other("text that isn't UTF-8"), Cell::Text),
            "INTEGER" => self.row.try_get_unchecked(index).map_or(UNREADABLE, Cell::Number),
            "REAL" => Cell::Other("a fraction"),
            _ => Cell::Other("a blob"),
        }
    }

    fn bad(&self, column: &'static str, found: &Cell, wanted: &'static str) -> BadRow {
        let key = match self.at(self.first) {
            Cell::Text(text) => format!("{:?}", clip(&text, SHOWN)),
            Cell::Number(number) => number.to_string(),
            other => format!("({})", other.describe()),
        };
        BadRow { table: self.table.name, key, column, found: found.describe(), wanted }
    }
}
