//! Which coroutine of a shared instance calls, by the component model's tasks; for who wants to see what they do.

use std::{collections::HashMap, sync::Arc};

use wasmtime::{
    AsContextMut, StoreContextMut,
    component::{Accessor, ComponentNamedList, GuestTaskId, HasData, Lift, Lower, TypedFunc},
};

use super::{HasView, backtrace::take_if_wanted};
use crate::roster::{Coroutine, Doing, Instance, Kind, Present, Roster};

/// The coroutines of a shared instance.
pub struct Crew {
    roster: Arc<Roster>,
    instance: Arc<Instance>,
    members: HashMap<GuestTaskId, Arc<Coroutine>>,
}

impl Crew {
    /// Of an instance whose coroutines are to be seen there.
    pub fn new(roster: &Arc<Roster>, instance: &Arc<Instance>) -> Box<Self> {
        Box::new(Self { roster: roster.clone(), instance: instance.clone(), members: HashMap::new() })
    }

    /// One that is about to start.
    pub fn enter(&self, id: u64, kind: Kind, peer: Option<std::net::SocketAddr>) -> Present {
        let present = self.roster.enter(Coroutine::new(id, kind, self.instance.clone(), peer));
        present.begin(Doing::Ready);
        present
    }
}

/// Calls a function of a shared instance as that coroutine, if it is one that is to be seen.
pub async fn run<T, D, P, R>(
    accessor: &Accessor<T, D>,
    function: TypedFunc<P, R>,
    params: P,
    present: Option<&Present>,
) -> wasmtime::Result<R>
where
    T: HasView,
    D: HasData + ?Sized,
    P: ComponentNamedList + Lower + 'static,
    R: ComponentNamedList + Lift + 'static,
{
    let Some(present) = present else { return function.call_concurrent(accessor, params).await };
    let call = accessor.with(|mut access| -> wasmtime::Result<_> {
        let mut store = access.as_context_mut();
        let call = function.start_call_concurrent(&mut store, params)?;
        if let Some(crew) = &mut store.data_mut().view().crew {
            crew.members.insert(call.task(), present.coroutine().clone());
        }
        Ok(call)
    })?;
    let task = call.task();
    let returned = function.finish_call_concurrent(accessor, call).await;
    accessor.with(|mut access| {
        if let Some(crew) = &mut access.as_context_mut().data_mut().view().crew {
            crew.members.remove(&task);
        }
    });
    returned
}

/// The coroutine whose call or code the host is in, if it is known. Its stack is taken, if that is wanted.
pub(crate) fn caller<T: HasView>(mut store: StoreContextMut<'_, T>) -> Option<Arc<Coroutine>> {
    let view = store.data().view_ref();
    let coroutine = match (&view.coroutine, &view.crew) {
        (Some(alone), _) => alone.clone(),
        (None, None) => return None,
        (None, Some(_)) => member(&mut store)?,
    };
    take_if_wanted(&coroutine, &store);
    Some(coroutine)
}

fn member<T: HasView>(store: &mut StoreContextMut<'_, T>) -> Option<Arc<Coroutine>> {
    let tasks: Vec<GuestTaskId> = store.async_call_stack().ok()?.collect();
    let crew = store.data().view_ref().crew.as_ref()?;
    tasks.iter().find_map(|task| crew.members.get(task).cloned())
}

/// Takes the calling coroutine's stack, if that of any in its instance is wanted: to find out which one calls costs more than the call.
pub(crate) fn show<T: HasView>(store: StoreContextMut<'_, T>) {
    let crew = store.data().view_ref().crew.as_ref();
    if crew.is_some_and(|crew| crew.instance.is_wanted()) {
        caller(store);
    }
}
