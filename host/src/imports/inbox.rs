//! conet:fibers/inbox: receiving for all coroutines of an instance, of which one waits.

use std::{
    future::poll_fn,
    hash::{BuildHasher, RandomState},
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use conet_rt::{Buf, net::TcpStream};
use slab::Slab;
use wasmtime::{
    AsContextMut, bail,
    component::{Access, Accessor, HasSelf, Resource},
    format_err,
};

use super::{HasView, View, connection::Connection, crew, fault, throttle::Receive, view::Call};
use crate::{
    bindings::{
        fibers::{
            inbox::{Host, HostWithStore},
            threads,
        },
        net::types::ErrorCode,
    },
    roster::{Coroutine, Doing, Kind},
};

/// Requests under way, and answers that nobody has fetched.
#[derive(Default)]
pub struct Inbox {
    under_way: Slab<UnderWay>,
    /// Of the request in that place of `under_way`, now or later.
    wakers: Vec<Arc<Place>>,
    woken: Arc<Woken>,
    /// Refused before they began.
    refused: Vec<Answer>,
    /// Too long to go with the answers, by ticket.
    kept: Vec<(u32, Buf)>,
    /// A coroutine waits.
    waiting: bool,
    /// Makes tags of connections that a guest cannot guess.
    tags: RandomState,
    tagged: u64,
}

/// A request as it comes from the guest.
struct Request {
    key: u64,
    timeout: Option<u64>,
    ticket: u32,
    max: u32,
}

/// The answer to it.
struct Answer {
    ticket: u32,
    /// How many bytes, and whether they are kept.
    outcome: Result<u32, ErrorCode>,
}

struct UnderWay {
    ticket: u32,
    connection: u32,
    call: Call<Receive>,
}

/// Which requests may have come to something, and whom to wake then.
#[derive(Default)]
struct Woken(Mutex<(Vec<usize>, Option<Waker>)>);

/// Wakes on behalf of one request.
struct Place {
    index: usize,
    /// It is among the woken already.
    noted: AtomicBool,
    woken: Arc<Woken>,
}

impl Request {
    /// Three words each.
    fn all(words: &[u64]) -> wasmtime::Result<impl Iterator<Item = Request>> {
        let (requests, []) = words.as_chunks() else { bail!("a request to receive has three words") };
        Ok(requests.iter().map(|[key, timeout, ticket_and_max]| Request {
            key: *key,
            timeout: Some(*timeout).filter(|timeout| *timeout != u64::MAX),
            ticket: (ticket_and_max >> 32) as u32,
            max: *ticket_and_max as u32,
        }))
    }
}

impl Answer {
    fn word(&self) -> u64 {
        let lower = match self.outcome {
            Ok(bytes) => bytes,
            Err(code) => ERROR | code as u32,
        };
        u64::from(self.ticket) << 32 | u64::from(lower)
    }
}

impl Woken {
    fn lock(&self) -> MutexGuard<'_, (Vec<usize>, Option<Waker>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Has the request polled by the next one who looks.
    fn note(&self) -> Option<Waker> {
        if self.noted.swap(true, Ordering::AcqRel) {
            return None;
        }
        let mut woken = self.woken.lock();
        woken.0.push(self.index);
        woken.1.take()
    }
}

impl Wake for Place {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // The lock is let go of before: a woken task may want it at once.
        if let Some(waker) = self.note() {
            waker.wake();
        }
    }
}

impl View {
    fn inbox(&mut self) -> &mut Inbox {
        self.inbox.get_or_insert_default()
    }

    fn receive(&mut self, requests: impl IntoIterator<Item = Request>) -> wasmtime::Result<()> {
        for Request { key, timeout, ticket, max } in requests {
            let connection = self.keyed(key)?;
            let begun = self.begin_recv(
                &Resource::new_borrow(connection),
                max,
                timeout,
                TcpStream::recv_for_another,
            )?;
            let handles_max = self.context.limits.shared_handles_max;
            let inbox = self.inbox();
            match begun {
                Ok(call) => inbox.insert(UnderWay { ticket, connection, call }, handles_max)?,
                Err(code) => inbox.refused.push(Answer { ticket, outcome: Err(code) }),
            }
        }
        Ok(())
    }

    fn begin_wait(&mut self, requests: &[u64]) -> wasmtime::Result<()> {
        let inbox = self.inbox();
        if mem::replace(&mut inbox.waiting, true) {
            bail!("two coroutines wait in the inbox");
        }
        if !inbox.kept.is_empty() {
            bail!("a coroutine waits in the inbox, and what was received before was not taken");
        }
        self.receive(Request::all(requests)?)
    }

    /// The connection that `inbox.key` has named.
    fn keyed(&self, key: u64) -> wasmtime::Result<u32> {
        let (tag, rep) = ((key >> 32) as u32, key as u32);
        let known = self.table.get(&Resource::<Connection>::new_borrow(rep));
        match known {
            Ok(connection) if connection.tag == tag && tag != 0 => {
                if let Some(reader) = &connection.reader {
                    reader.begin(Doing::Recv);
                }
                Ok(rep)
            }
            _ => bail!("a request to receive from a connection that this instance does not have"),
        }
    }

    /// Who receives from it is to go on.
    fn answered(&self, connection: u32) {
        let known = self.table.get(&Resource::<Connection>::new_borrow(connection));
        if let Some(reader) = known.ok().and_then(|connection| connection.reader.as_ref()) {
            reader.begin(Doing::Running);
        }
    }

    fn poll_answers(&mut self, cx: &mut Context<'_>) -> Poll<(Vec<Answer>, Vec<u8>)> {
        let mut answers = mem::take(&mut self.inbox().refused);
        let mut bytes = Vec::new();
        let mut kept_bytes = 0;
        let mut woken = self.inbox().look(cx.waker());
        while let Some(index) = woken.pop() {
            let inbox = self.inbox();
            let place = inbox.wakers[index].clone();
            place.noted.store(false, Ordering::Release);
            let Some(under_way) = inbox.under_way.get_mut(index) else { continue };
            let polled = under_way.call.poll_now(&mut Context::from_waker(&Waker::from(place)));
            let Poll::Ready(called) = polled else { continue };
            let UnderWay { ticket, connection, .. } = inbox.under_way.remove(index);
            if self.crew.is_some() {
                self.answered(connection);
            }
            let outcome = self.end_recv(&Resource::new_borrow(connection), called).map(|received| {
                // At most CHUNK_BYTES_MAX.
                let length = received.len() as u32;
                if received.len() <= COPIED_BYTES_MAX {
                    bytes.extend_from_slice(&received);
                    return length;
                }
                kept_bytes += received.len();
                self.inbox().kept.push((ticket, received));
                KEPT | length
            });
            answers.push(Answer { ticket, outcome });
            if bytes.len() >= ANSWER_BYTES || kept_bytes >= KEPT_BYTES || answers.len() >= ANSWERS {
                // The others are the first of those who look next.
                woken.reverse();
                self.inbox().woken.lock().0.splice(..0, woken.drain(..));
            }
        }
        if answers.is_empty() { Poll::Pending } else { Poll::Ready((answers, bytes)) }
    }
}

impl Inbox {
    fn insert(&mut self, request: UnderWay, requests_max: usize) -> wasmtime::Result<()> {
        if self.under_way.len() >= requests_max {
            bail!("more requests to receive than the instance may have handles");
        }
        let index = self.under_way.insert(request);
        if index == self.wakers.len() {
            self.wakers.push(Arc::new(Place {
                index,
                noted: AtomicBool::new(false),
                woken: self.woken.clone(),
            }));
        }
        // To be tried first of all.
        self.wakers[index].wake_by_ref();
        Ok(())
    }

    /// The requests that were woken, the first one last. From now on `waker` is whom to wake.
    fn look(&mut self, waker: &Waker) -> Vec<usize> {
        let mut woken = self.woken.lock();
        let mut indices = mem::take(&mut woken.0);
        match &woken.1 {
            Some(known) if known.will_wake(waker) => {}
            _ => woken.1 = Some(waker.clone()),
        }
        indices.reverse();
        indices
    }
}

impl View {
    /// A name for the connection, which that coroutine is to receive from.
    fn key(
        &mut self,
        connection: &Resource<Connection>,
        reader: Option<Arc<Coroutine>>,
    ) -> wasmtime::Result<u64> {
        let rep = connection.rep();
        if self.table.get(connection)?.tag == 0 {
            let inbox = self.inbox();
            inbox.tagged += 1;
            let tag = inbox.tags.hash_one(inbox.tagged) as u32;
            self.table.get_mut(connection)?.tag = tag.max(1);
        }
        let connection = self.table.get_mut(connection)?;
        if let Some(reader) = reader {
            if reader.kind != Kind::Connection {
                connection.note_peer(&reader);
            }
            connection.reader = Some(reader);
        }
        Ok(u64::from(connection.tag) << 32 | u64::from(rep))
    }
}

impl Host for View {
    fn take(&mut self, ticket: u32) -> wasmtime::Result<Vec<u8>> {
        fault::point("inbox.take");
        let kept = &mut self.inbox().kept;
        match kept.iter().position(|(of, _)| *of == ticket) {
            Some(place) => Ok(kept.swap_remove(place).1.into_vec()),
            None => bail!("nothing is kept for this ticket"),
        }
    }

    fn try_recv(
        &mut self,
        connection: Resource<Connection>,
        max: u32,
    ) -> wasmtime::Result<Result<Vec<u8>, ErrorCode>> {
        fault::point("inbox.try-recv");
        if self.table.get(&connection)?.throttle().is_some_and(|throttle| throttle.recv_max().is_some()) {
            // It is to wait for its turn, which a call that does not wait would lose.
            return Ok(Ok(Vec::new()));
        }
        let mut call = match self.begin_recv(&connection, max, None, TcpStream::recv)? {
            Ok(call) => call,
            Err(code) => return Ok(Err(code)),
        };
        match call.poll_now(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(called) => Ok(self.end_recv(&connection, called).map(Buf::into_vec)),
            Poll::Pending => {
                self.give_up_recv(&connection);
                Ok(Ok(Vec::new()))
            }
        }
    }
}

impl<T: HasView> HostWithStore<T> for HasSelf<View> {
    fn key(mut access: Access<'_, T, Self>, connection: Resource<Connection>) -> wasmtime::Result<u64> {
        fault::point("inbox.key");
        let reader = crew::caller(access.as_context_mut());
        access.get().key(&connection, reader)
    }

    fn add(mut access: Access<'_, T, Self>, requests: Vec<u64>) -> wasmtime::Result<()> {
        fault::point("inbox.add");
        crew::show(access.as_context_mut());
        access.get().receive(Request::all(&requests)?)
    }

    async fn wait(accessor: &Accessor<T, Self>, requests: Vec<u64>) -> wasmtime::Result<(Vec<u64>, Vec<u8>)> {
        fault::point("inbox.wait");
        accessor.with(|mut a| crew::show(a.as_context_mut()));
        // At once: those that are added meanwhile come after.
        accessor.with(|mut a| a.get().begin_wait(&requests))?;
        // The first poll is on the guest's stack, of which this would need another page; it nearly always has to wait.
        let mut first = true;
        poll_fn(|_| if mem::take(&mut first) { Poll::Pending } else { Poll::Ready(()) }).await;
        let (answers, bytes) = poll_fn(|cx| accessor.with(|mut a| a.get().poll_answers(cx))).await;
        accessor.with(|mut a| a.get().inbox().waiting = false);
        Ok((answers.iter().map(Answer::word).collect(), bytes))
    }
}

/// Calls that `sandbox::threads` replaces by the component model's built-ins: none of them arrives.
impl threads::Host for View {
    fn index(&mut self) -> wasmtime::Result<u32> {
        Err(not_replaced())
    }

    fn suspend(&mut self) -> wasmtime::Result<u32> {
        Err(not_replaced())
    }

    fn suspend_then_resume(&mut self, _thread: u32) -> wasmtime::Result<u32> {
        Err(not_replaced())
    }

    fn resume_later(&mut self, _thread: u32) -> wasmtime::Result<()> {
        Err(not_replaced())
    }
}

fn not_replaced() -> wasmtime::Error {
    format_err!("conet:fibers/threads is for direct calls only")
}

/// So many answers, or so many bytes, end a batch: the guest has both in memory.
const ANSWERS: usize = 64;
const ANSWER_BYTES: usize = 64 << 10;
/// What is longer is copied once, to where the guest wants it.
const COPIED_BYTES_MAX: usize = 4096;
/// So many bytes kept end a batch as well: they are in the processor's caches when they are taken.
const KEPT_BYTES: usize = 256 << 10;

/// In the lower half of an answer: it is an error.
const ERROR: u32 = 1 << 31;
/// There, besides the number of bytes: they are to be taken.
const KEPT: u32 = 1 << 30;

#[cfg(test)]
mod tests;
