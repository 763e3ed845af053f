//! A store with its limits around it: what one instance, and every coroutine in it, lives in.

use std::sync::Arc;

use wasmtime::{Engine, Store, StoreContextMut};

use super::{
    limiter::Limiter,
    slice::{self, SLICE_TICKS, Slice},
};
use crate::{
    imports::{Context, HasView, View, crew::Crew},
    quota::Permit,
    roster::{Coroutine, Instance},
};

/// A store's data.
pub struct State {
    /// What imports see.
    pub view: View,
    /// Memory and tables.
    pub limiter: Limiter,
    /// CPU.
    pub slice: Slice,
}

impl State {
    /// Somebody may want to see the coroutine, which has the store to itself.
    pub(super) fn set_coroutine(&mut self, coroutine: &Arc<Coroutine>) {
        self.limiter.instance = Some(coroutine.instance.clone());
        self.view.coroutine = Some(coroutine.clone());
    }

    /// Somebody may want to see the coroutines of this instance.
    pub(super) fn set_crew(&mut self, instance: &Arc<Instance>) {
        self.limiter.instance = Some(instance.clone());
        self.view.crew = self.view.context.roster.as_ref().map(|roster| Crew::new(roster, instance));
    }
}

impl HasView for State {
    fn view(&mut self) -> &mut View {
        &mut self.view
    }

    fn view_ref(&self) -> &View {
        &self.view
    }

    fn begin_slice(mut store: StoreContextMut<'_, Self>) {
        store.set_epoch_deadline(SLICE_TICKS);
        let state = store.data_mut();
        state.slice.begin();
        state.view.context.metrics.fresh_slices.increment();
    }
}

/// How many coroutines an instance is for: its limits differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occupancy {
    /// One: a plain handler's connection, a spawned coroutine.
    One,
    /// Many: a program, or a shared handler.
    Many,
}

/// A store for one instance of the tenant, for which memory may have been taken already.
pub fn store(
    engine: &Engine,
    context: &Arc<Context>,
    occupancy: Occupancy,
    id: u64,
    reserved: Option<Permit>,
) -> Store<State> {
    let limits = &context.limits;
    let (memory_bytes_max, handles_max) = match occupancy {
        Occupancy::One => (limits.fresh_memory_bytes_max, limits.fresh_handles_max),
        Occupancy::Many => (limits.shared_memory_bytes_max, limits.shared_handles_max),
    };
    let state = State {
        view: View::new(context.clone(), id, handles_max),
        limiter: Limiter::new(context.clone(), memory_bytes_max as u64, reserved),
        slice: Slice::starting(limits.start_max.is_some()),
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.limiter);
    // The host's table is full first, which is an error; beyond this one it is a trap. Calls under way have handles too.
    store.set_max_component_handles(handles_max.saturating_mul(2));
    store.set_hostcall_fuel(limits.host_call_bytes_max);
    store.epoch_deadline_callback(slice::at_deadline);
    store.set_epoch_deadline(SLICE_TICKS);
    store
}
