//! libpam, as far as one question needs it: is this the password, and may the account be used?
//!
//! Loaded at run time and only in the short-lived child that asks, so that a host without PAM needs none and no code of
//! a module ever runs in a long-lived root process. Never opens a session or changes a password, and sets credentials only
//! for a log-on, to take a Kerberos ticket over.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::path::Path;

use crate::ticket::{self, Keep};

pub(crate) const SUCCESS: c_int = 0;
pub(crate) const PERM_DENIED: c_int = 6;
pub(crate) const AUTH_ERR: c_int = 7;
pub(crate) const AUTHINFO_UNAVAIL: c_int = 9;
pub(crate) const USER_UNKNOWN: c_int = 10;
pub(crate) const MAXTRIES: c_int = 11;
pub(crate) const NEW_AUTHTOK_REQD: c_int = 12;
pub(crate) const ACCT_EXPIRED: c_int = 13;
pub(crate) const AUTHTOK_EXPIRED: c_int = 27;
const BUF_ERR: c_int = 5;
const CONV_ERR: c_int = 19;

const ITEM_USER: c_int = 2;
const ITEM_TTY: c_int = 3;
const ITEM_FAIL_DELAY: c_int = 10;
const DISALLOW_NULL_AUTHTOK: c_int = 1;
const ESTABLISH_CRED: c_int = 2;
const DELETE_CRED: c_int = 4;

const PROMPT_ECHO_OFF: c_int = 1;
const ERROR_MSG: c_int = 3;
const TEXT_INFO: c_int = 4;

const SERVICE: &CStr = c"stead";
const MESSAGES_MAX: usize = 32;
const SAID_MAX: usize = 400;

type Handle = *mut c_void;

#[repr(C)]
struct Message {
    style: c_int,
    text: *const c_char,
}

#[repr(C)]
struct Response {
    text: *mut c_char,
    code: c_int,
}

type Converse = unsafe extern "C" fn(c_int, *mut *const Message, *mut *mut Response, *mut c_void) -> c_int;

#[repr(C)]
struct Conversation {
    converse: Converse,
    data: *mut c_void,
}

/// The calls that are used (pam(3)).
pub(crate) struct Library {
    start_confdir:
        unsafe extern "C" fn(*const c_char, *const c_char, *const Conversation, *const c_char, *mut Handle) -> c_int,
    set_item: unsafe extern "C" fn(Handle, c_int, *const c_void) -> c_int,
    get_item: unsafe extern "C" fn(Handle, c_int, *mut *const c_void) -> c_int,
    authenticate: unsafe extern "C" fn(Handle, c_int) -> c_int,
    acct_mgmt: unsafe extern "C" fn(Handle, c_int) -> c_int,
    setcred: unsafe extern "C" fn(Handle, c_int) -> c_int,
    getenv: unsafe extern "C" fn(Handle, *const c_char) -> *const c_char,
    strerror: unsafe extern "C" fn(Handle, c_int) -> *const c_char,
    end: unsafe extern "C" fn(Handle, c_int) -> c_int,
}

/// What came of a question.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Of `pam_start`, when that failed already; else of `pam_authenticate`.
    pub(crate) auth: c_int,
    /// Of `pam_acct_mgmt`; `None`: not asked.
    pub(crate) account: Option<c_int>,
    /// Who was authenticated, as PAM has it in the end.
    pub(crate) user: Option<Vec<u8>>,
    /// What PAM and its modules said.
    pub(crate) said: String,
}

impl Library {
    pub(crate) fn load() -> Result<Self, String> {
        // SAFETY: a NUL-terminated name; what the library's constructors do is why this is a process of its own.
        let library = unsafe { libc::dlopen(c"libpam.so.0".as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if library.is_null() {
            return Err(format!("this host has no usable libpam: {}", loader_error()));
        }
        // SAFETY: each type is that of the function in its man page, unchanged since Linux-PAM 1.4.
        unsafe {
            Ok(Self {
                start_confdir: symbol(library, c"pam_start_confdir")?,
                set_item: symbol(library, c"pam_set_item")?,
                get_item: symbol(library, c"pam_get_item")?,
                authenticate: symbol(library, c"pam_authenticate")?,
                acct_mgmt: symbol(library, c"pam_acct_mgmt")?,
                setcred: symbol(library, c"pam_setcred")?,
                getenv: symbol(library, c"pam_getenv")?,
                strerror: symbol(library, c"pam_strerror")?,
                end: symbol(library, c"pam_end")?,
            })
        }
    }

    /// Asks service `stead` as `confdir` has it, and with `keep` takes over the ticket that a module has then. Blocks as
    /// long as the modules like.
    pub(crate) fn ask(&self, confdir: &Path, name: &str, password: &[u8], keep: Option<&Keep<'_>>) -> Outcome {
        let failed = |auth, said: &str| Outcome { auth, account: None, user: None, said: said.to_owned() };
        let (Ok(confdir), Ok(name)) = (CString::new(confdir.as_os_str().as_encoded_bytes()), CString::new(name)) else {
            return failed(BUF_ERR, "a name with a NUL");
        };
        let mut talk = Talk { password, said: String::new() };
        let data = (&raw mut talk).cast();
        let conversation = Conversation { converse, data };
        let mut handle = std::ptr::null_mut();
        // SAFETY: NUL-terminated texts, a conversation that outlives the handle, and room for it.
        let started = unsafe {
            (self.start_confdir)(
                SERVICE.as_ptr(),
                name.as_ptr(),
                &raw const conversation,
                confdir.as_ptr(),
                &raw mut handle,
            )
        };
        if started != SUCCESS || handle.is_null() {
            return failed(if started == SUCCESS { BUF_ERR } else { started }, "pam_start failed");
        }
        let mut outcome = self.converse(handle);
        let is_yes = outcome.auth == SUCCESS && outcome.account == Some(SUCCESS);
        if let (Some(keep), true) = (keep, is_yes)
            && let Err(why) = self.take_ticket(handle, keep)
        {
            outcome.said = why;
        }
        // SAFETY: a live handle, not used any more; it alone knew `talk`.
        unsafe { (self.end)(handle, outcome.account.unwrap_or(outcome.auth)) };
        let said = [outcome.said.as_str(), talk.said.as_str()].join(": ");
        Outcome { said: discreet(said.trim_end_matches(": "), password), ..outcome }
    }

    fn converse(&self, handle: Handle) -> Outcome {
        let text = |code| {
            // SAFETY: a live handle; the text is static.
            let text = unsafe { (self.strerror)(handle, code) };
            // SAFETY: null or NUL-terminated.
            if text.is_null() { String::new() } else { unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned() }
        };
        // Else libpam sleeps after a wrong answer; how often may be guessed is the throttle's to say.
        let no_delay = no_delay as unsafe extern "C" fn(c_int, c_uint, *mut c_void);
        // SAFETY: a live handle; the one item is a function pointer, the other a text that libpam copies.
        let set = unsafe {
            (self.set_item)(handle, ITEM_FAIL_DELAY, no_delay as *const c_void).max((self.set_item)(
                handle,
                ITEM_TTY,
                SERVICE.as_ptr().cast(),
            ))
        };
        if set != SUCCESS {
            return Outcome { auth: set, account: None, user: None, said: text(set) };
        }
        // SAFETY: a live handle.
        let auth = unsafe { (self.authenticate)(handle, DISALLOW_NULL_AUTHTOK) };
        // SAFETY: a live handle.
        let account = (auth == SUCCESS).then(|| unsafe { (self.acct_mgmt)(handle, DISALLOW_NULL_AUTHTOK) });
        let said = match account {
            None => format!("authenticate: {}", text(auth)),
            Some(account) => format!("account: {}", text(account)),
        };
        Outcome { auth, account, user: self.user(handle), said }
    }

    /// What a module got besides, copied; what it wrote itself is removed again by it.
    fn take_ticket(&self, handle: Handle, keep: &Keep<'_>) -> Result<(), String> {
        // SAFETY: a live handle. Whatever it says: only what is there then counts.
        unsafe { (self.setcred)(handle, ESTABLISH_CRED) };
        // SAFETY: a live handle and a NUL-terminated name.
        let name = unsafe { (self.getenv)(handle, c"KRB5CCNAME".as_ptr()) };
        // SAFETY: null or NUL-terminated, and libpam's until the handle ends; copied before another call.
        let name = (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned());
        let kept = name.map_or(Ok(()), |name| ticket::keep(&name, keep));
        // SAFETY: a live handle.
        unsafe { (self.setcred)(handle, DELETE_CRED) };
        kept
    }

    fn user(&self, handle: Handle) -> Option<Vec<u8>> {
        let mut user = std::ptr::null();
        // SAFETY: a live handle and room for a pointer.
        let got = unsafe { (self.get_item)(handle, ITEM_USER, &raw mut user) };
        // SAFETY: NUL-terminated, and libpam's until the handle ends.
        (got == SUCCESS && !user.is_null()).then(|| unsafe { CStr::from_ptr(user.cast()) }.to_bytes().to_vec())
    }
}

fn loader_error() -> String {
    // SAFETY: null or NUL-terminated, valid until the next call of the loader.
    let text = unsafe { libc::dlerror() };
    // SAFETY: as above.
    if text.is_null() { String::new() } else { unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned() }
}

/// # Safety
/// `T` is the type of the function called `name`.
unsafe fn symbol<T: Copy>(library: *mut c_void, name: &CStr) -> Result<T, String> {
    const { assert!(size_of::<T>() == size_of::<*mut c_void>()) };
    // SAFETY: a loaded library and a NUL-terminated name.
    let address = unsafe { libc::dlsym(library, name.as_ptr()) };
    if address.is_null() {
        return Err(format!(
            "this host's libpam is too old: {} is missing (Linux-PAM 1.4 has it)",
            name.to_string_lossy()
        ));
    }
    // SAFETY: of one size, and promised by the caller.
    Ok(unsafe { std::mem::transmute_copy(&address) })
}

/// Told how long to sleep; doesn't.
unsafe extern "C" fn no_delay(_result: c_int, _microseconds: c_uint, _data: *mut c_void) {}

// ---- the conversation --------------------------------------------------------------------------------------------

struct Talk<'a> {
    password: &'a [u8],
    said: String,
}

/// Answers what is asked blindly with the password, keeps what is told, and refuses to answer anything else.
///
/// # Safety
/// Called by libpam with `count` messages, room for one pointer, and the `Talk` of the conversation.
unsafe extern "C" fn converse(
    count: c_int,
    messages: *mut *const Message,
    responses: *mut *mut Response,
    data: *mut c_void,
) -> c_int {
    let count = usize::try_from(count).unwrap_or(0);
    if count == 0 || count > MESSAGES_MAX || messages.is_null() || responses.is_null() || data.is_null() {
        return CONV_ERR;
    }
    // SAFETY: ours, alive, and used by nobody else while libpam runs.
    let talk = unsafe { &mut *data.cast::<Talk<'_>>() };
    // SAFETY: all zero is an answer without text; libpam frees it.
    let answers: *mut Response = unsafe { libc::calloc(count, size_of::<Response>()) }.cast();
    if answers.is_null() {
        return BUF_ERR;
    }
    for i in 0..count {
        // SAFETY: `i` is below the count; Linux-PAM passes an array of pointers (pam_conv(3)).
        let message = unsafe { &**messages.add(i) };
        let text = match message.style {
            PROMPT_ECHO_OFF => copy(talk.password),
            ERROR_MSG | TEXT_INFO => {
                talk.note(message);
                continue;
            }
            _ => std::ptr::null_mut(),
        };
        if text.is_null() {
            talk.note(message);
            // SAFETY: what was answered so far is ours again.
            unsafe { take_back(answers, count) };
            return CONV_ERR;
        }
        // SAFETY: `i` is below the count.
        unsafe { (*answers.add(i)).text = text };
    }
    // SAFETY: checked above.
    unsafe { *responses = answers };
    SUCCESS
}

/// A NUL-terminated copy for libpam to free.
fn copy(password: &[u8]) -> *mut c_char {
    // SAFETY: all zero, so the copy ends in a NUL.
    let to: *mut u8 = unsafe { libc::calloc(password.len().saturating_add(1), 1) }.cast();
    if !to.is_null() {
        // SAFETY: room for one byte more.
        unsafe { std::ptr::copy_nonoverlapping(password.as_ptr(), to, password.len()) };
    }
    to.cast()
}

/// # Safety
/// `answers` has `count` entries, and nobody else has them.
unsafe fn take_back(answers: *mut Response, count: usize) {
    for i in 0..count {
        // SAFETY: promised by the caller; the process ends soon, and its memory with it.
        unsafe { libc::free((*answers.add(i)).text.cast()) };
    }
    // SAFETY: made by calloc.
    unsafe { libc::free(answers.cast()) };
}

impl Talk<'_> {
    fn note(&mut self, message: &Message) {
        if message.text.is_null() || self.said.len() > SAID_MAX {
            return;
        }
        // SAFETY: not null, so NUL-terminated.
        let text = unsafe { CStr::from_ptr(message.text) }.to_string_lossy();
        if !self.said.is_empty() {
            self.said.push_str("; ");
        }
        self.said.push_str(text.trim());
    }
}

/// One line, and none that repeats the password.
fn discreet(said: &str, password: &[u8]) -> String {
    let repeats = !password.is_empty() && said.as_bytes().windows(password.len()).any(|w| w == password);
    if repeats {
        return "(a module said something that must not be repeated)".to_owned();
    }
    said.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_modules_say_is_one_line_without_the_password() {
        assert_eq!(discreet("hello\nada\u{1b}[2J", b"x1"), "hello ada [2J");
        assert!(!discreet("you typed hunter2, ada", b"hunter2").contains("hunter2"));
    }

    #[test]
    fn only_blind_prompts_are_answered() {
        let message = |style| Message { style, text: c"hm".as_ptr() };
        let ask = |styles: &[c_int]| {
            let messages: Vec<Message> = styles.iter().map(|s| message(*s)).collect();
            let mut pointers: Vec<*const Message> = messages.iter().map(std::ptr::from_ref).collect();
            let mut answers = std::ptr::null_mut();
            let mut talk = Talk { password: b"secret", said: String::new() };
            let count = c_int::try_from(styles.len()).expect("few");
            // SAFETY: as libpam would call it.
            let code = unsafe { converse(count, pointers.as_mut_ptr(), &raw mut answers, (&raw mut talk).cast()) };
            let mut texts = Vec::new();
            if code == SUCCESS {
                for i in 0..styles.len() {
                    // SAFETY: as many answers as messages.
                    let text = unsafe { (*answers.add(i)).text };
                    // SAFETY: null or NUL-terminated.
                    texts.push((!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_bytes().to_vec()));
                }
                // SAFETY: libpam would free them.
                unsafe { take_back(answers, styles.len()) };
            }
            (code, texts, talk.said)
        };
        let secret = || Some(b"secret".to_vec());
        assert_eq!(ask(&[1]), (SUCCESS, vec![secret()], String::new()));
        assert_eq!(ask(&[4, 1, 3]), (SUCCESS, vec![None, secret(), None], "hm; hm".to_owned()));
        assert_eq!(ask(&[1, 2]), (CONV_ERR, vec![], "hm".to_owned()), "a prompt that echoes");
        assert_eq!(ask(&[7]).0, CONV_ERR);
        assert_eq!(ask(&[]).0, CONV_ERR);
        assert_eq!(ask(&[1; 33]).0, CONV_ERR);
    }
}
