//! Secrets that are good once, for a short time, and kept only as their hash.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use warrant::{hex, sha256};
use zeroize::Zeroizing;

/// More at a time take the place of the oldest: nobody can fill the memory.
const MAX: usize = 1000;

/// What stands behind each of them.
#[derive(Debug)]
pub(crate) struct Once<T> {
    lasts: Duration,
    all: Mutex<HashMap<[u8; 32], (Instant, T)>>,
}

/// 256 random bits as text.
pub(crate) fn random() -> std::io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).map_err(std::io::Error::other)?;
    Ok(Zeroizing::new(hex(&*bytes)))
}

impl<T> Once<T> {
    pub(crate) fn new(lasts: Duration) -> Self {
        Self { lasts, all: Mutex::default() }
    }

    pub(crate) fn put(&self, value: T) -> std::io::Result<Zeroizing<String>> {
        let secret = random()?;
        self.put_at(&secret, value, Instant::now());
        Ok(secret)
    }

    /// Puts it under a secret that somebody showed; what was there before comes back.
    #[cfg(feature = "oidc")]
    pub(crate) fn note(&self, secret: &str, value: T) -> Option<T> {
        let now = Instant::now();
        let before = self.take_at(secret, now);
        self.put_at(secret, value, now);
        before
    }

    fn put_at(&self, secret: &str, value: T, now: Instant) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (since, _)| now.duration_since(*since) < self.lasts);
        if all.len() >= MAX
            && let Some(oldest) = all.iter().min_by_key(|(_, (since, _))| *since).map(|(key, _)| *key)
        {
            all.remove(&oldest);
        }
        all.insert(sha256(&[secret.as_bytes()]), (now, value));
    }

    /// What was put there, unless somebody took it, or it was too long ago.
    pub(crate) fn take(&self, secret: &str) -> Option<T> {
        self.take_at(secret, Instant::now())
    }

    fn take_at(&self, secret: &str, now: Instant) -> Option<T> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, value) = all.remove(&sha256(&[secret.as_bytes()]))?;
        (now.duration_since(since) < self.lasts).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_and_not_for_long() {
        let once = Once::new(Duration::from_secs(60));
        let secret = once.put(7).expect("random");
        assert_eq!((once.take("x"), once.take(&secret), once.take(&secret)), (None, Some(7), None));
        let now = Instant::now();
        once.put_at("late", 8, now);
        assert_eq!(once.take_at("late", now + Duration::from_secs(60)), None);
        for i in 0..=MAX {
            once.put_at(&i.to_string(), 0, now + Duration::from_millis(i as u64));
        }
        assert_eq!(once.all.lock().expect("lock").len(), MAX);
        assert_eq!((once.take_at("0", now), once.take_at("1", now)), (None, Some(0)));
    }
}
