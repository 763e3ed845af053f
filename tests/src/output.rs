//! What a process prints, collected as it comes.

use std::io::Read;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::PATIENCE;
use crate::process::readable;

/// One stream of a process, stdout or stderr.
#[derive(Clone, Default)]
pub struct Output {
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    ended: bool,
}

impl Output {
    /// Collects from `source` on a thread of its own, until it ends.
    pub fn collect(mut source: impl Read + Send + 'static) -> Self {
        let output = Self::default();
        let collected = output.clone();
        std::thread::spawn(move || {
            let mut chunk = vec![0; 64 * 1024];
            while let Ok(length @ 1..) = source.read(&mut chunk) {
                collected.update(|state| state.bytes.extend_from_slice(&chunk[..length]));
            }
            collected.update(|state| state.ended = true);
        });
        output
    }

    /// Collects nothing.
    pub fn none() -> Self {
        let output = Self::default();
        output.update(|state| state.ended = true);
        output
    }

    /// Collects the first line of `source`, or what there is before its end, and no more of it.
    pub fn first_line(mut source: impl Read + AsFd) -> Self {
        let output = Self::default();
        let mut byte = [0];
        while byte != *b"\n" && readable(&source, PATIENCE) && matches!(source.read(&mut byte), Ok(1)) {
            output.update(|state| state.bytes.push(byte[0]));
        }
        output.update(|state| state.ended = true);
        output
    }

    /// What has come so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).bytes.clone()
    }

    /// What has come so far, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// Waits until `find` finds something in the text so far; none at the stream's end or after `limit`.
    pub fn wait<T>(&self, limit: Duration, mut find: impl FnMut(&str) -> Option<T>) -> Option<T> {
        self.wait_state(limit, |state| find(&String::from_utf8_lossy(&state.bytes)))
    }

    /// Waits for the end of the stream; whether it came within `limit`.
    pub fn wait_end(&self, limit: Duration) -> bool {
        self.wait_state(limit, |state| state.ended.then_some(())).is_some()
    }

    fn wait_state<T>(&self, limit: Duration, mut find: impl FnMut(&State) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + limit;
        let (state, changed) = &*self.shared;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = find(&state) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                return None;
            }
            state = changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        let (state, changed) = &*self.shared;
        change(&mut state.lock().unwrap_or_else(PoisonError::into_inner));
        changed.notify_all();
    }
}
