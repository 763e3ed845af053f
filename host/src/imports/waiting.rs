//! Waiting in a call: what the coroutine is told to do meanwhile, and taking its stack where it waits.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
};

use conet_rt::budget;
use wasmtime::{
    AsContextMut,
    component::{Access, Accessor, HasSelf},
};

use super::{HasView, View, backtrace::take_if_wanted, crew};
use crate::roster::{Coroutine, Doing, meanwhile};

/// `future`'s output, and whether it had to wait, for a coroutine that has the store to itself. Whoever wants its stack wakes its
/// task, and this future is polled on the guest's.
pub(crate) async fn waiting<T: HasView, F: Future>(
    access: &mut Access<'_, T, HasSelf<View>>,
    doing: Doing,
    future: F,
) -> (F::Output, bool) {
    let coroutine = access.get().coroutine.clone();
    let _meanwhile = meanwhile(coroutine.as_deref(), doing);
    let mut future = pin!(future);
    let mut waited = false;
    let output = poll_fn(|cx| {
        let polled = future.as_mut().poll(cx);
        if polled.is_pending() {
            waited |= !budget::is_exhausted();
            if let Some(coroutine) = &coroutine {
                take_if_wanted(coroutine, access.as_context_mut());
            }
        }
        polled
    })
    .await;
    (output, waited)
}

/// The coroutine of a shared instance that calls, if it is known. Its stack is taken now, as nothing is polled on it later.
pub(crate) fn caller<T: HasView>(accessor: &Accessor<T, HasSelf<View>>) -> Option<Arc<Coroutine>> {
    accessor.with(|mut access| crew::caller(access.as_context_mut()))
}
