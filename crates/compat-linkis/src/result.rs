//! Tables out of what a task printed: one row for each line, or the records of CSV. They are split into files, because
//! clients ask for the first rows of each file and for nothing more of it; where files end depends on the output alone.

use serde::Serialize;

/// Most rows of a file: what clients are given of one without asking for more.
pub const FILE_ROWS: u64 = 5000;
/// Most bytes of a file's rows, but for its last one, as they are kept in memory.
const FILE_BYTES: usize = 4 << 20;
/// What a cell takes besides its text: without it empty ones would be for nothing.
const CELL_BYTES: usize = 24;
/// Most bytes of a row.
pub const ROW_MAX: usize = 1 << 20;
/// The column of output that has none.
const LINE: &str = "line";

/// How output is understood.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// Each line is a row; one that is too long goes on in the next.
    #[default]
    Lines,
    /// RFC 4180, with the names of the columns first.
    Csv,
}

impl Format {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Csv => "csv",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Lines, Self::Csv].into_iter().find(|format| format.as_str() == word)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Column {
    pub column_name: String,
    pub data_type: &'static str,
    pub comment: Option<String>,
}

/// Why output is no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoTable {
    #[error("record {0} of the output has more than {ROW_MAX} bytes (a quote that isn't closed?)")]
    Record(u64),
    #[error("record {row} of the output has {cells} cells, and the first has {columns}: that is no table of CSV")]
    Ragged { row: u64, cells: usize, columns: usize },
}

/// Reads output piece by piece; keeps the rows of one file at most.
#[derive(Debug)]
pub struct Table {
    format: Format,
    wanted: Option<u64>,
    kept: Vec<Vec<String>>,
    kinds: Vec<Kind>,
    names: Option<Vec<String>>,
    /// The file that the next row goes into, and what is in it.
    file: u64,
    in_file: (u64, usize),
    rows: u64,
    csv: Csv,
}

/// How many files there are of so many rows, if none of them is large.
#[must_use]
pub const fn files_of(rows: u64) -> u64 {
    if rows == 0 { 1 } else { rows.div_ceil(FILE_ROWS) }
}

impl Table {
    /// `wanted`: the file whose rows are kept.
    #[must_use]
    pub fn new(format: Format, wanted: Option<u64>) -> Self {
        Self {
            format,
            wanted,
            kept: Vec::new(),
            kinds: Vec::new(),
            names: None,
            file: 0,
            in_file: (0, 0),
            rows: 0,
            csv: Csv::default(),
        }
    }

    pub fn push(&mut self, piece: &[u8]) -> Result<(), NoTable> {
        match self.format {
            Format::Lines => {
                self.push_lines(piece);
                Ok(())
            }
            Format::Csv => piece.iter().try_for_each(|byte| self.push_byte(*byte)),
        }
    }

    /// The rest, which has no end of its own.
    pub fn finish(mut self) -> Result<Self, NoTable> {
        match self.format {
            Format::Lines if !self.csv.field.is_empty() => self.end_line(),
            Format::Csv if self.csv.has_begun() => self.end_record()?,
            _ => {}
        }
        Ok(self)
    }

    fn push_lines(&mut self, piece: &[u8]) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let (mut text, is_whole) = match part.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (part, false),
            };
            while self.csv.field.len() + text.len() > ROW_MAX {
                let (first, rest) = text.split_at(ROW_MAX - self.csv.field.len());
                self.csv.field.extend_from_slice(first);
                let torn = torn_character(&self.csv.field);
                let next = self.csv.field.split_off(self.csv.field.len() - torn);
                self.end_line();
                self.csv.field = next;
                text = rest;
            }
            self.csv.field.extend_from_slice(text);
            if is_whole {
                if self.csv.field.last() == Some(&b'\r') {
                    self.csv.field.pop();
                }
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.csv.field);
        self.row(vec![text(line)]);
    }

    fn push_byte(&mut self, byte: u8) -> Result<(), NoTable> {
        if self.csv.take(byte) {
            return self.end_record();
        }
        if self.csv.size > ROW_MAX { Err(NoTable::Record(self.rows + 1)) } else { Ok(()) }
    }

    fn end_record(&mut self) -> Result<(), NoTable> {
        let record = self.csv.end();
        let Some(names) = &self.names else {
            self.kinds = vec![Kind::Nothing; record.len()];
            self.names = Some(record);
            return Ok(());
        };
        if record.len() != names.len() {
            let (cells, columns) = (record.len(), names.len());
            return Err(NoTable::Ragged { row: self.rows + 1, cells, columns });
        }
        for (kind, cell) in self.kinds.iter_mut().zip(&record) {
            *kind = kind.and(cell);
        }
        self.row(record);
        Ok(())
    }

    fn row(&mut self, row: Vec<String>) {
        let (rows, bytes) = self.in_file;
        if rows >= FILE_ROWS || bytes >= FILE_BYTES {
            self.file += 1;
            self.in_file = (0, 0);
        }
        self.in_file.0 += 1;
        self.in_file.1 += row.iter().map(|cell| cell.len() + CELL_BYTES).sum::<usize>();
        self.rows += 1;
        if self.wanted == Some(self.file) {
            self.kept.push(row);
        }
    }

    /// All rows, of all files.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// At least one: what printed nothing is an empty table, not none.
    #[must_use]
    pub const fn files(&self) -> u64 {
        self.file + 1
    }

    /// The same in every file.
    #[must_use]
    pub fn columns(&self) -> Vec<Column> {
        let column =
            |name: &str, kind: Kind| Column { column_name: name.to_owned(), data_type: kind.as_str(), comment: None };
        match (self.format, &self.names) {
            (Format::Lines, _) => vec![column(LINE, Kind::Text)],
            (Format::Csv, None) => Vec::new(),
            (Format::Csv, Some(names)) => names.iter().zip(&self.kinds).map(|(n, k)| column(n, *k)).collect(),
        }
    }

    /// Those of the file that was asked for.
    #[must_use]
    pub fn into_rows(self) -> Vec<Vec<String>> {
        self.kept
    }
}

/// Rows below the names of their columns, as RFC 4180 has them.
#[must_use]
pub fn csv(columns: &[Column], rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    let names: Vec<String> = columns.iter().map(|column| column.column_name.clone()).collect();
    for record in [&names].into_iter().chain(rows) {
        for (n, cell) in record.iter().enumerate() {
            let is_plain = !cell.is_empty() && !cell.contains([',', '"', '\n', '\r']);
            text.push_str(if n > 0 { "," } else { "" });
            text.push_str(&if is_plain { cell.clone() } else { format!("\"{}\"", cell.replace('"', "\"\"")) });
        }
        text.push_str("\r\n");
    }
    text
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// How many bytes at the end begin a character that isn't complete.
fn torn_character(bytes: &[u8]) -> usize {
    let tail = bytes.len().saturating_sub(3);
    let Some(at) = bytes[tail..].iter().rposition(|byte| byte & 0b1100_0000 != 0b1000_0000) else { return 0 };
    let (first, have) = (bytes[tail + at], bytes.len() - tail - at);
    let needs = match first {
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf7 => 4,
        _ => 1,
    };
    if have < needs { have } else { 0 }
}

/// One record of CSV as far as it was read.
#[derive(Debug, Default)]
struct Csv {
    cells: Vec<Vec<u8>>,
    field: Vec<u8>,
    size: usize,
    is_quoted: bool,
    /// The last byte was a quote in quotes: the end of them, or half of one.
    was_quote: bool,
    was_any: bool,
    /// The last byte was a carriage return outside quotes: a line end with the next, or a character.
    was_return: bool,
}

impl Csv {
    const fn has_begun(&self) -> bool {
        self.was_any
    }

    /// Whether the record is complete with this byte.
    fn take(&mut self, byte: u8) -> bool {
        if self.is_quoted && !self.was_quote {
            self.was_any = true;
            match byte {
                b'"' => self.was_quote = true,
                _ => self.keep(byte),
            }
            return false;
        }
        let was_quote = std::mem::take(&mut self.was_quote);
        self.is_quoted &= byte == b'"';
        if std::mem::take(&mut self.was_return) && byte != b'\n' {
            self.keep(b'\r');
        }
        match byte {
            b'"' if was_quote => self.keep(b'"'),
            b'"' if self.field.is_empty() && !self.is_quoted => (self.is_quoted, self.was_any) = (true, true),
            b',' => self.end_cell(),
            b'\n' => return self.was_any,
            b'\r' => self.was_return = true,
            _ => self.keep(byte),
        }
        false
    }

    fn keep(&mut self, byte: u8) {
        self.was_any = true;
        self.size += 1;
        self.field.push(byte);
    }

    fn end_cell(&mut self) {
        self.was_any = true;
        self.is_quoted = false;
        self.size += 1;
        self.cells.push(std::mem::take(&mut self.field));
    }

    fn end(&mut self) -> Vec<String> {
        self.end_cell();
        let record = std::mem::take(self);
        record.cells.into_iter().map(text).collect()
    }
}

/// What all cells of a column are; empty ones are anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nothing,
    Whole,
    Number,
    Truth,
    Text,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "bigint",
            Self::Number => "double",
            Self::Truth => "boolean",
            Self::Nothing | Self::Text => "string",
        }
    }

    fn and(self, cell: &str) -> Self {
        if cell.is_empty() || self == Self::Text {
            return self;
        }
        match (self, Self::of(cell)) {
            (Self::Nothing, kind) => kind,
            (before, kind) if before == kind => kind,
            (Self::Whole | Self::Number, Self::Whole | Self::Number) => Self::Number,
            _ => Self::Text,
        }
    }

    /// Only what is written back the same way is a number: 007 is a name.
    fn of(cell: &str) -> Self {
        let digits = cell.strip_prefix('-').unwrap_or(cell);
        let begins = digits.bytes().take_while(u8::is_ascii_digit).count();
        let is_plain = begins == 1 || (begins > 1 && !digits.starts_with('0'));
        match cell {
            "true" | "false" => Self::Truth,
            _ if is_plain && begins == digits.len() && cell.parse::<i64>().is_ok() => Self::Whole,
            _ if is_plain && begins < digits.len() && cell.parse::<f64>().is_ok_and(f64::is_finite) => Self::Number,
            _ => Self::Text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of a file, whatever the pieces that the output comes in.
    fn read(format: Format, output: &str, wanted: u64) -> Result<Table, NoTable> {
        let mut tables = Vec::new();
        for size in [1, 3, usize::MAX] {
            let mut table = Table::new(format, Some(wanted));
            for piece in output.as_bytes().chunks(size.min(output.len().max(1))) {
                table.push(piece)?;
            }
            tables.push(table.finish()?);
        }
        let last = tables.pop().expect("three");
        for other in tables {
            let facts = |t: &Table| (t.kept.clone(), t.columns(), t.rows, t.files());
            assert_eq!(facts(&other), facts(&last), "whatever the pieces");
        }
        Ok(last)
    }

    fn rows(format: Format, output: &str) -> Vec<Vec<String>> {
        read(format, output, 0).expect("a table").into_rows()
    }

    #[test]
    fn lines_are_rows() {
        let table: [(&str, &[&str]); 8] = [
            ("", &[]),
            ("a", &["a"]),
            ("a\n", &["a"]),
            ("a\nb", &["a", "b"]),
            ("a\r\n\nb\n", &["a", "", "b"]),
            ("\n", &[""]),
            ("é\tü,\"x\n", &["é\tü,\"x"]),
            ("a\rb\n", &["a\rb"]),
        ];
        for (output, expected) in table {
            let expected: Vec<_> = expected.iter().map(|line| vec![(*line).to_owned()]).collect();
            assert_eq!(rows(Format::Lines, output), expected, "{output:?}");
        }
        let empty = read(Format::Lines, "", 0).expect("a table");
        assert_eq!((empty.files(), empty.columns()[0].column_name.as_str()), (1, "line"));
        let mut binary = Table::new(Format::Lines, Some(0));
        binary.push(b"\xff\xfe\n").expect("taken");
        assert_eq!(binary.finish().expect("table").into_rows(), [["\u{fffd}\u{fffd}"]]);
    }

    #[test]
    fn records_are_rows() {
        let table: [(&str, &[&[&str]]); 8] = [
            ("a,b\n1,2\n", &[&["1", "2"]]),
            ("a,b\r\n1,2\r\n", &[&["1", "2"]]),
            ("a,b\n\"x,\"\"y\"\"\nz\",\n", &[&["x,\"y\"\nz", ""]]),
            ("a\n\"\"\nx\n", &[&[""], &["x"]]),
            ("a,b\n1,2", &[&["1", "2"]]),
            ("a,b\r\n\"1\",\"x\"\r\n\"\"\"\",2\r\n", &[&["1", "x"], &["\"", "2"]]),
            ("a\n\"x\r\"\ny\rz\n", &[&["x\r"], &["y\rz"]]),
            ("a,b\n\n1,2\n", &[&["1", "2"]]),
        ];
        for (output, expected) in table {
            assert_eq!(rows(Format::Csv, output), expected, "{output:?}");
        }
        assert!(read(Format::Csv, "", 0).expect("a table").columns().is_empty());
        let ragged = read(Format::Csv, "a,b\n1\n", 0).expect_err("refused");
        assert_eq!(ragged, NoTable::Ragged { row: 1, cells: 1, columns: 2 });
    }

    #[test]
    fn what_is_written_is_what_was_read() {
        let output = "a,\"b,c\"\r\n\"x \"\"y\"\"\nz\",\"\"\r\n1,2\r\n";
        let table = read(Format::Csv, output, 0).expect("a table");
        let columns = table.columns();
        assert_eq!(csv(&columns, &table.into_rows()), output);
    }

    #[test]
    fn columns_have_types() {
        let table: [(&[&str], &str); 12] = [
            (&["1", "-2", ""], "bigint"),
            (&["0"], "bigint"),
            (&["1", "2.5"], "double"),
            (&["-0.5", "1e9"], "double"),
            (&["true", "false"], "boolean"),
            (&["true", "1"], "string"),
            (&["007"], "string"),
            (&["1", "x"], "string"),
            (&["x", "1"], "string"),
            (&["99999999999999999999"], "string"),
            (&["NaN", "inf"], "string"),
            (&["", ""], "string"),
        ];
        for (cells, expected) in table {
            let quoted: String = cells.iter().map(|cell| format!("\"{cell}\"\n")).collect();
            let read = read(Format::Csv, &format!("c\n{quoted}"), 0).expect("a table");
            assert_eq!(read.columns()[0].data_type, expected, "{cells:?}");
        }
    }

    #[test]
    fn many_rows_are_several_files_and_none_is_lost() {
        let output: String = (0..20_001).map(|n| format!("{n}\n")).collect();
        let mut table = Table::new(Format::Lines, None);
        table.push(output.as_bytes()).expect("taken");
        let whole = table.finish().expect("table");
        assert_eq!((whole.files(), whole.rows()), (5, 20_001));
        assert_eq!(whole.files(), files_of(20_001));
        let mut all = Vec::new();
        for file in 0..=whole.files() {
            let mut table = Table::new(Format::Lines, Some(file));
            table.push(output.as_bytes()).expect("taken");
            let rows = table.finish().expect("table").into_rows();
            assert!(rows.len() as u64 <= FILE_ROWS);
            all.extend(rows);
        }
        assert_eq!(all.concat(), (0..20_001).map(|n| n.to_string()).collect::<Vec<_>>());
    }

    #[test]
    fn files_are_never_large_and_long_lines_go_on() {
        let output = "é".repeat(3 * ROW_MAX);
        let mut table = Table::new(Format::Lines, Some(0));
        output.as_bytes().chunks(10_007).for_each(|piece| table.push(piece).expect("taken"));
        let table = table.finish().expect("table");
        assert_eq!((table.rows(), table.files()), (6, 2));
        let mut second = Table::new(Format::Lines, Some(1));
        second.push(output.as_bytes()).expect("taken");
        let all = [table.into_rows().concat(), second.finish().expect("table").into_rows().concat()].concat();
        assert!(all.iter().all(|row| row.len() <= ROW_MAX && !row.contains('\u{fffd}')));
        assert_eq!(all.concat(), output);
        let empty = format!("{}\n", ",".repeat(99_999)).repeat(20);
        let mut wide = Table::new(Format::Csv, Some(0));
        wide.push(empty.as_bytes()).expect("taken");
        let wide = wide.finish().expect("table");
        assert_eq!((wide.rows(), wide.files(), wide.into_rows().len()), (19, 10, 2), "a cell is something, too");
        let mut open = Table::new(Format::Csv, None);
        assert_eq!(open.push(format!("a\n\"{}", "x".repeat(ROW_MAX + 1)).as_bytes()), Err(NoTable::Record(1)));
    }
}
