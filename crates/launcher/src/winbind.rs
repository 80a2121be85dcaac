//! Whether a member of a domain reaches it: winbind says "not found" of everybody while no controller answers.
//!
//! Asked through the library that winbind's own PAM module uses, loaded at run time and only where the host names winbind
//! in its `nsswitch.conf`, in processes that load that host's name services anyway. A host without the library gives no opinion:
//! then "not found" counts. Of other domains that the host's own trusts nothing is asked.

use std::ffi::{c_char, c_int, c_void};

pub(crate) const SERVICE: &str = "winbind";

/// Results of libwbclient that are no outage. Of its own domain winbind says "not found" when no controller is.
const SUCCESS: c_int = 0;
const NOT_IMPLEMENTED: c_int = 1;

type PingDc = unsafe extern "C" fn(*const c_char, *mut *mut c_void) -> c_int;

/// Asks a controller of the host's own domain for a sign of life. Blocks as long as winbind looks for one.
pub(crate) fn domain_answers() -> bool {
    // SAFETY: a NUL-terminated name; this process loads the host's name services, of which this is a part.
    let library = unsafe { libc::dlopen(c"libwbclient.so.0".as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if library.is_null() {
        return true;
    }
    // SAFETY: a live handle and a NUL-terminated name.
    let symbol = unsafe { libc::dlsym(library, c"wbcPingDc".as_ptr()) };
    if symbol.is_null() {
        return true;
    }
    // SAFETY: not null, and the function's type in wbclient.h, unchanged since libwbclient 0.9.
    let ping: PingDc = unsafe { std::mem::transmute::<*mut c_void, PingDc>(symbol) };
    // SAFETY: no name is the host's own domain; no place for details is allowed.
    let said = unsafe { ping(std::ptr::null(), std::ptr::null_mut()) };
    matches!(said, SUCCESS | NOT_IMPLEMENTED)
}
