//! Waiting for time to pass.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use crate::budget;
use crate::remote::{Message, Remote, WorkerId};
use crate::timer::TimerKey;
use crate::worker::local;

/// Waits this long. A duration too long for the clock is as good as for ever.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(after(duration))
}

/// Waits until then.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, timer: None }
}

/// This long from now, or in 30 years if that is sooner.
pub fn after(duration: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(duration.min(FOR_EVER)).unwrap_or(now)
}

/// The future's result, or [`Elapsed`] if it is not there by the deadline; none is no limit.
///
/// The future is polled first: what is ready at once needs no timer, and is not lost to a deadline gone by.
pub async fn timeout_at<F: Future>(deadline: Option<Instant>, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut limit = deadline.map(sleep_until);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        match &mut limit {
            Some(limit) => Pin::new(limit).poll(cx).map(|()| Err(Elapsed)),
            None => Poll::Pending,
        }
    })
    .await
}

/// As [`timeout_at`], from now.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    timeout_at(Some(after(duration)), future).await
}

/// Lets the other tasks that are ready run first.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The deadline came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the deadline has passed")
    }
}

impl Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(elapsed: Elapsed) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, elapsed)
    }
}

/// See [`sleep`]. The timer is made when it is first polled, and dropped with it.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Sleep {
    deadline: Instant,
    /// While it waits: where, and on what.
    timer: Option<(WorkerId, TimerKey)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.deadline {
            ready!(budget::poll_proceed(cx));
            budget::spend();
            return Poll::Ready(());
        }
        let deadline = self.deadline;
        let timer = self.timer.map(|(_, key)| key);
        let timer = local::with(|local| {
            debug_assert!(
                self.timer.is_none_or(|(worker, _)| worker == local.remote.id),
                "a timer has moved"
            );
            let known = |key| local.reactor(|reactor| reactor.renew(key, cx.waker()));
            match timer.filter(|key| known(*key)) {
                Some(key) => (local.remote.id, key),
                None => {
                    let waker = cx.waker().clone();
                    (local.remote.id, local.reactor(|reactor| reactor.timers.set(deadline, waker)))
                }
            }
        });
        self.timer = Some(timer.expect("a worker's thread"));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let Some((worker, key)) = self.timer else { return };
        if local::is_current(worker) {
            drop(local::with(|local| local.reactor(|reactor| reactor.timers.remove(key))));
        } else if let Some(remote) = Remote::find(worker) {
            let _ = remote.send(Message::Forget(key));
        }
    }
}

/// Far beyond any deadline that is meant.
const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
