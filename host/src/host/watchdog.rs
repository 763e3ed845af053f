//! Tells the service manager that the host is alive, as long as it is: as long as the main thread and every worker get to what
//! they are asked to do. A thread of its own asks, or who hangs would not be noticed.

use std::{
    io, mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

use conet_rt::Handle;
use tracing::error;

use super::occurrence::Occurrence;

/// Who is asked. Dropping it ends the asking.
pub(super) struct Watchdog {
    asked: Arc<Mutex<Asked>>,
    main: Arc<Pulse>,
    _end: Sender<()>,
}

/// All of them, and what they owe.
struct Asked {
    main: Arc<Pulse>,
    events: Sender<Occurrence>,
    workers: Vec<(Handle, Arc<Pulse>)>,
}

/// There is a question that one of them has not answered.
#[derive(Default)]
struct Pulse(AtomicBool);

/// A question to one of them. To drop it is to answer it, too: who drops it does not owe an answer any more.
pub(super) struct Question(Arc<Pulse>);

impl Question {
    /// Says that whoever calls this gets to do what it is asked.
    pub(super) fn answer(self) {}
}

impl Watchdog {
    /// Calls `alive` some times in each period, while all answer. The main thread is asked by `events`.
    pub(super) fn start(
        period: Duration,
        events: Sender<Occurrence>,
        alive: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let main = Arc::new(Pulse::default());
        let asked = Asked { main: main.clone(), events, workers: Vec::new() };
        let asked = Arc::new(Mutex::new(asked));
        let (end, ended) = channel::<()>();
        let turn = (period / TURNS).max(TURN_MIN);
        let asking = asked.clone();
        let mut told = false;
        thread::Builder::new().name("watchdog".into()).spawn(move || {
            loop {
                match lock(&asking).turn() {
                    Ok(()) => {
                        told = false;
                        alive();
                    }
                    // Once for each time that it happens.
                    Err(who) if !mem::replace(&mut told, true) => {
                        error!("{who} not been heard of for {turn:?}: the service manager's watchdog is left waiting");
                    }
                    Err(_) => {}
                }
                if ended.recv_timeout(turn) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Self { asked, main, _end: end })
    }

    /// From now on these workers are asked.
    pub(super) fn set_workers(&self, workers: impl Iterator<Item = Handle>) {
        lock(&self.asked).set_workers(workers);
    }

    /// The main thread gets on with something that takes long.
    pub(super) fn beat(&self) {
        self.main.answer();
    }
}

impl Asked {
    /// Those that were asked before owe what they owe: one that hangs is none the better for a reload.
    fn set_workers(&mut self, workers: impl Iterator<Item = Handle>) {
        let before = mem::take(&mut self.workers);
        let pulse = |worker: &Handle| {
            let known = before.iter().find(|(one, _)| one.id() == worker.id());
            known.map(|(_, pulse)| pulse.clone()).unwrap_or_default()
        };
        self.workers = workers.map(|worker| (worker.clone(), pulse(&worker))).collect();
    }

    /// Asks all of them, if they have answered; or says who has not.
    fn turn(&self) -> Result<(), String> {
        let silent = self.workers.iter().filter(|(_, pulse)| pulse.owes()).count();
        match (self.main.owes(), silent) {
            (false, 0) => {}
            (false, workers) => return Err(format!("{workers} of {} workers have", self.workers.len())),
            (true, 0) => return Err("the main thread has".to_owned()),
            (true, workers) => {
                return Err(format!("the main thread and {workers} of {} workers have", self.workers.len()));
            }
        }
        for (worker, pulse) in &self.workers {
            let question = pulse.ask();
            // A worker that was told to stop drops it.
            let _ = worker.spawn(move || async { question.answer() });
        }
        // The host is gone only when the process ends.
        let _ = self.events.send(Occurrence::Asked(self.main.ask()));
        Ok(())
    }
}

impl Pulse {
    fn ask(self: &Arc<Self>) -> Question {
        self.0.store(true, Ordering::Relaxed);
        Question(self.clone())
    }

    fn answer(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    fn owes(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.0.answer();
    }
}

fn lock(asked: &Mutex<Asked>) -> MutexGuard<'_, Asked> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In a period: who is late once is not given up.
const TURNS: u32 = 4;
const TURN_MIN: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;
    use conet_rt::{DriverKind, Worker, WorkerConfig};
    use std::sync::mpsc::Receiver;

    fn asked() -> (Asked, Receiver<Occurrence>, Worker) {
        let config = WorkerConfig { name: "asked".into(), driver: DriverKind::Epoll, hooks: None };
        let worker = Worker::start(config).expect("a thread");
        let (events, happened) = channel();
        let workers = vec![(worker.handle(), Arc::default())];
        (Asked { main: Arc::default(), events, workers }, happened, worker)
    }

    /// The main thread takes what it is asked.
    fn answer(happened: &Receiver<Occurrence>) {
        assert!(matches!(happened.recv(), Ok(Occurrence::Asked(_))));
    }

    fn wait_for_the_worker(asked: &Asked) {
        while asked.workers[0].1.owes() {
            thread::yield_now();
        }
    }

    #[test]
    fn who_has_not_answered_is_named_and_not_asked_again() {
        let (asked, happened, worker) = asked();
        for _ in 0..3 {
            assert_eq!(asked.turn(), Ok(()));
            answer(&happened);
            wait_for_the_worker(&asked);
        }
        let (go_on, wait) = channel::<()>();
        asked.workers[0].0.spawn(move || async move { assert!(wait.recv().is_err()) }).expect("it runs");
        assert_eq!(asked.turn(), Ok(()), "all had answered");
        assert_eq!(asked.turn(), Err("the main thread and 1 of 1 workers have".to_owned()));
        answer(&happened);
        assert_eq!(asked.turn(), Err("1 of 1 workers have".to_owned()));
        drop(go_on);
        wait_for_the_worker(&asked);
        assert_eq!(asked.turn(), Ok(()));
        wait_for_the_worker(&asked);
        assert_eq!(asked.turn(), Err("the main thread has".to_owned()));
        asked.main.answer();
        assert_eq!(asked.turn(), Ok(()));
        answer(&happened);
        assert_eq!(happened.try_iter().count(), 1, "three questions were asked, and two taken");
        worker.stop();
        worker.join().expect("it ends");
    }

    /// Tenants come and go more often than it is asked.
    #[test]
    fn a_worker_that_hangs_is_not_forgiven_when_others_are_asked_as_well() {
        let (mut asked, happened, worker) = asked();
        let (go_on, wait) = channel::<()>();
        asked.workers[0].0.spawn(move || async move { assert!(wait.recv().is_err()) }).expect("it runs");
        assert_eq!(asked.turn(), Ok(()));
        answer(&happened);
        for _ in 0..3 {
            asked.set_workers([worker.handle()].into_iter());
            assert_eq!(asked.turn(), Err("1 of 1 workers have".to_owned()));
        }
        drop(go_on);
        wait_for_the_worker(&asked);
        assert_eq!(asked.turn(), Ok(()));
        worker.stop();
        worker.join().expect("it ends");
    }

    /// A reload may end them at any time.
    #[test]
    fn a_worker_that_has_stopped_owes_nothing() {
        let (asked, happened, worker) = asked();
        worker.stop();
        worker.join().expect("it ends");
        for _ in 0..3 {
            assert_eq!(asked.turn(), Ok(()));
            answer(&happened);
        }
    }
}
