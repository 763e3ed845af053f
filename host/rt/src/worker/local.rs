//! This thread's worker: its run loop, and the way tasks and sockets reach it.

use std::cell::{Cell, RefCell};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::pace::Pace;
use super::{Hooks, WorkerConfig};
use crate::driver::Driver;
use crate::executor::Executor;
use crate::reactor::Reactor;
use crate::remote::{Message, Remote, WorkerId};

/// What a worker is made of, not yet on its thread.
pub(super) struct Parts {
    pub(super) remote: Arc<Remote>,
    reactor: Reactor,
    hooks: Option<Box<dyn Hooks + Send>>,
}

impl Parts {
    pub(super) fn new(config: WorkerConfig) -> io::Result<Parts> {
        let remote = Remote::new()?;
        match Driver::new(config.driver, remote.clone()) {
            Ok(driver) => Ok(Parts { remote, reactor: Reactor::new(driver), hooks: config.hooks }),
            Err(error) => {
                remote.forget();
                Err(error)
            }
        }
    }
}

/// A worker on its thread.
pub(crate) struct Local {
    pub(crate) remote: Arc<Remote>,
    pub(crate) executor: Executor,
    reactor: RefCell<Reactor>,
    hooks: RefCell<Option<Box<dyn Hooks + Send>>>,
    stopping: Cell<bool>,
    /// Messages just taken from the mailbox.
    messages: RefCell<Vec<Message>>,
}

impl Local {
    /// Makes this thread the worker's. What it gives ends the worker when it is dropped.
    pub(super) fn enter(parts: Parts) -> io::Result<Entered> {
        let Parts { remote, reactor, hooks } = parts;
        if ID.get() != NO_WORKER {
            remote.forget();
            return Err(io::Error::other("this thread is a worker already"));
        }
        let local = Rc::new(Local {
            executor: Executor::new(remote.clone()),
            reactor: RefCell::new(reactor),
            hooks: RefCell::new(hooks),
            stopping: Cell::new(false),
            messages: RefCell::default(),
            remote,
        });
        ID.set(local.remote.id.0);
        CURRENT.with(|current| current.replace(Some(local.clone())));
        Ok(Entered(local))
    }

    /// Runs tasks until told to stop, or `done`.
    pub(super) fn run(&self, done: impl Fn() -> bool) {
        if let Some(hooks) = self.hooks.borrow_mut().as_mut() {
            hooks.begins(self.reactor.borrow().readable());
        }
        let mut pace = Pace::new();
        while !self.stopping.get() && !done() {
            self.receive();
            self.executor.turn(&mut pace);
            if !self.executor.has_ready() {
                if self.stopping.get() || done() {
                    return;
                }
                self.tell(&pace);
                self.sleep();
            } else if pace.is_due() {
                self.tell(&pace);
                self.reactor(|reactor| reactor.wait(Some(Duration::ZERO)));
            } else {
                continue;
            }
            pace = Pace::new();
        }
    }

    /// Tells how the worker keeps up, as it comes to look at its sockets.
    fn tell(&self, pace: &Pace) {
        if let Some(time) = pace.stalled() {
            self.remote.load.add_stall(time);
        }
        self.remote.load.set_in_flight(self.reactor.borrow().in_flight());
    }

    /// Uses the reactor; then wakes and drops what it has set aside, which may use it again.
    pub(crate) fn reactor<R>(&self, call: impl FnOnce(&mut Reactor) -> R) -> R {
        let mut reactor = self.reactor.borrow_mut();
        let result = call(&mut reactor);
        if !reactor.woken.is_empty() || !reactor.discarded.is_empty() {
            let mut woken = std::mem::take(&mut reactor.woken);
            let discarded = std::mem::take(&mut reactor.discarded);
            drop(reactor);
            for waker in woken.drain(..) {
                waker.wake();
            }
            drop(discarded);
            // Keep the allocation.
            let mut reactor = self.reactor.borrow_mut();
            if reactor.woken.is_empty() {
                reactor.woken = woken;
            }
        }
        result
    }

    /// Waits until there is something to do.
    fn sleep(&self) {
        if !self.remote.mailbox.park() {
            return self.reactor(|reactor| reactor.wait(Some(Duration::ZERO)));
        }
        if let Some(hooks) = self.hooks.borrow_mut().as_mut() {
            hooks.before_wait();
        }
        self.reactor(|reactor| reactor.wait(None));
        if let Some(hooks) = self.hooks.borrow_mut().as_mut() {
            hooks.after_wait();
        }
        self.remote.mailbox.unpark();
    }

    /// Handles what other threads have sent.
    fn receive(&self) {
        let mut messages = self.messages.take();
        self.remote.mailbox.drain(&mut messages);
        for message in messages.drain(..) {
            self.handle(message);
        }
        self.messages.replace(messages);
    }

    fn handle(&self, message: Message) {
        match message {
            Message::Wake(runnable) => self.executor.push(runnable),
            Message::Start(start) if self.stopping.get() => self.guard(|| drop(start)),
            Message::Start(start) => self.guard(start),
            Message::Close(socket) => self.reactor(|reactor| reactor.close(socket)),
            Message::Cancel(op, ticket) => self.reactor(|reactor| reactor.cancel(op, ticket)),
            Message::Forget(timer) => drop(self.reactor(|reactor| reactor.timers.remove(timer))),
            Message::Accept(socket) => self.reactor(|reactor| reactor.nudge(socket)),
            Message::Stop => self.stopping.set(true),
        }
    }

    /// Runs what may panic, and counts if it does.
    fn guard(&self, call: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(call)).is_err() {
            self.remote.panics.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The worker of this thread, until dropped.
pub(super) struct Entered(Rc<Local>);

impl std::ops::Deref for Entered {
    type Target = Local;

    fn deref(&self) -> &Local {
        &self.0
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let local = &self.0;
        local.stopping.set(true);
        local.executor.clear(|| local.receive());
        // No future is left, so what still comes is about things that are gone, or too late.
        for message in local.remote.mailbox.close() {
            local.guard(|| drop(message));
        }
        local.remote.forget();
        CURRENT.with(|current| current.replace(None));
        ID.set(NO_WORKER);
    }
}

/// Whether this thread is that worker's.
pub(crate) fn is_current(id: WorkerId) -> bool {
    ID.get() == id.0
}

/// Uses this thread's worker, if it has one.
pub(crate) fn with<R>(call: impl FnOnce(&Local) -> R) -> Option<R> {
    // While the thread ends there is none any more.
    CURRENT.try_with(|current| current.borrow().as_deref().map(call)).ok().flatten()
}

const NO_WORKER: u32 = 0;

thread_local! {
    static ID: Cell<u32> = const { Cell::new(NO_WORKER) };
    static CURRENT: RefCell<Option<Rc<Local>>> = const { RefCell::new(None) };
}
