//! What Linkis's REST interface means: its envelope, its words, its numbers and paths, and its tables of results.
//!
//! Pure: no input or output, no clock; texts come in, shapes go out. Who somebody is and what they may see is decided
//! elsewhere, before anything gets here: a path or a number made or read by this crate gives no right to anything.
//!
//! It deliberately has none of Linkis's own tickets: those say who somebody is by a key that everybody knows.

#![forbid(unsafe_code)]

mod cookie;
mod envelope;
mod exec_id;
mod path;
mod result;
mod run;
mod state;
mod task;

pub use cookie::{Cookies, LOGIN_KEY, PROXY_KEY, unquoted};
pub use envelope::{Envelope, Status};
pub use exec_id::{APP, ExecId, task_number};
pub use path::{BadPath, Kept, Location};
pub use result::{Column, FILE_ROWS, Format, NoTable, ROW_MAX, Table, csv, files_of};
pub use run::{LabelError, RunType, RunTypes, SHELL_FLAG, label_of};
pub use state::TaskState;
pub use task::Task;
