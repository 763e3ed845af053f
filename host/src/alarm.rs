//! Has somebody look at what has happened: once, until they have.

use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Told by many, on any thread; heard by one.
#[derive(Default)]
pub struct Alarm {
    armed: AtomicBool,
    /// Must not wait.
    tell: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Alarm {
    /// One that calls this.
    pub fn new(tell: impl Fn() + Send + Sync + 'static) -> Self {
        Self { armed: AtomicBool::new(false), tell: Some(Box::new(tell)) }
    }

    /// Tells of the next thing that happens. To be called before it is looked at what has happened until now.
    pub fn arm(&self) {
        self.armed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Something has happened, and is to be seen.
    pub fn ring(&self) {
        // Who does not see it yet has armed this before, and that is seen here.
        fence(Ordering::SeqCst);
        if self.armed.load(Ordering::Relaxed)
            && self.armed.swap(false, Ordering::Relaxed)
            && let Some(tell) = &self.tell
        {
            tell();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::{Arc, atomic::AtomicUsize, mpsc::channel},
        thread,
    };

    #[test]
    fn it_tells_once_until_somebody_has_looked() {
        let told = Arc::new(AtomicUsize::new(0));
        let count = told.clone();
        let alarm = Alarm::new(move || _ = count.fetch_add(1, Ordering::Relaxed));
        alarm.ring();
        assert_eq!(told.load(Ordering::Relaxed), 0, "nobody wants to know");
        for times in 1..=2 {
            alarm.arm();
            (0..3).for_each(|_| alarm.ring());
            assert_eq!(told.load(Ordering::Relaxed), times);
        }
        Alarm::default().ring();
    }

    /// However a look and what happens come together, the last of it is looked at.
    #[test]
    fn nothing_is_missed() {
        let (tell, told) = channel();
        let alarm = Alarm::new(move || tell.send(()).expect("it is waited for"));
        let happened = AtomicUsize::new(0);
        let all = if cfg!(miri) { 50 } else { 100_000 };
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..all {
                    happened.fetch_add(1, Ordering::Relaxed);
                    alarm.ring();
                }
            });
            loop {
                alarm.arm();
                if happened.load(Ordering::Relaxed) == all {
                    break;
                }
                told.recv().expect("the alarm is there");
            }
        });
    }
}
