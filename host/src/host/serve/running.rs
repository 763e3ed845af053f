//! One version of a tenant, from its start to its end.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener},
    num::NonZeroU32,
    os::fd::OwnedFd,
    sync::{Arc, Weak, mpsc::Sender},
    time::{Duration, Instant},
};

use conet_rt::Group;
use tracing::{info, warn};

use super::{
    super::{
        context::{Around, Streams, context},
        handover::{Handed, Key},
        loading::Component,
        occurrence::{Occurrence, tell},
        plan::Plan,
        registry::Registered,
        room::Room,
    },
    ground::Ground,
    trial::{Trial, Verdict, does_well},
};
use crate::{
    access_log::Target,
    admin::State,
    alarm::Alarm,
    config::{file::Restart, limits::Limits},
    exit::StartError,
    guest_log::GuestLog,
    imports::{
        Context,
        commons::Commons,
        context::GuestOutput,
        given::Given,
        listeners::{Share, SharedListeners},
        listening::Listens,
        resolve::Resolver,
    },
    messages::Messages,
    metrics::Metrics,
    sandbox::{coroutine::Sandbox, trap::Ended},
    tenancy::{
        supervisor::Supervisor,
        tenant::{Event, Tenant},
    },
    warnings::Warnings,
};

/// The version.
pub(super) struct Running {
    pub(super) tenant: Tenant,
    /// What it was made by.
    pub(super) plan: Arc<Plan>,
    /// What it stands on.
    pub(super) ground: Arc<Ground>,
    began: Instant,
    /// As long as it is not known whether it stays.
    trial: Option<Trial>,
    /// Of its program; none of a handler.
    pub(super) copies: Vec<Copy>,
    /// Where the host listens for it, while it serves.
    listens: Vec<Listens>,
    /// So many of the host's loops do not accept, and are to be tried again.
    pub(super) failed: usize,
    /// It is to end: then what is left is cut off. None while it serves.
    pub(super) leaves_at: Option<Instant>,
    /// Sockets of the program before it, in this process or another, until this one has had the time to take them.
    inherited: Option<(Instant, Vec<Share>)>,
}

/// By tenant, what its versions have in common as long as there are any.
#[derive(Default)]
pub(super) struct CommonsOfAll(BTreeMap<String, Weak<Commons>>);

impl CommonsOfAll {
    fn of(&mut self, tenant: &str) -> Arc<Commons> {
        if let Some(commons) = self.0.get(tenant).and_then(Weak::upgrade) {
            return commons;
        }
        self.0.retain(|_, commons| commons.strong_count() > 0);
        let commons = Commons::new();
        self.0.insert(tenant.to_owned(), Arc::downgrade(&commons));
        commons
    }
}

/// A copy of a program.
pub(super) struct Copy {
    supervisor: Supervisor,
    /// It has been started, and has not ended.
    pub(super) runs: bool,
    /// It has ended, and is started again then.
    pub(super) start_at: Option<Instant>,
}

impl Copy {
    fn new(limits: &Limits) -> Self {
        Self { supervisor: Supervisor::new(limits), runs: false, start_at: None }
    }
}

/// What all of them are made with.
pub(super) struct Maker<'a> {
    pub(super) ground: &'a Arc<Ground>,
    pub(super) resolver: &'a Arc<Resolver>,
    pub(super) messages: &'a Messages,
    pub(super) access_log: Option<&'a Arc<Target>>,
    /// Where the host itself listens.
    pub(super) closed: &'a [SocketAddr],
    /// What this process was given to listen on.
    pub(super) given: &'a Arc<Given>,
    pub(super) events: &'a Sender<Occurrence>,
    /// There is an admin that shows what is there.
    pub(super) seen: bool,
    /// What the host before this one has handed on.
    pub(super) handed: &'a RefCell<Handed>,
    /// What versions of the same tenant have in common.
    pub(super) commons: &'a RefCell<CommonsOfAll>,
}

impl Running {
    /// Makes one ready. Nothing of it runs yet. `before` is the version that it takes the place of.
    pub(super) fn new(
        maker: &Maker<'_>,
        plan: &Arc<Plan>,
        (loaded, pooled): Component,
        number: usize,
        before: Option<&Running>,
    ) -> Result<Self, StartError> {
        let Plan { served, role, .. } = &**plan;
        let ground = maker.ground;
        let limits = &served.config.limits;
        let room = Room::within(&ground.room.shares, &served.config, *role, ground.handles.len())
            .map_err(|why| StartError::Options(format!("the tenant `{}`: {why}", served.config.name)))?;
        let metrics = Arc::new(Metrics::default());
        let warnings = Arc::new(Warnings::new(&served.config.name, served.config.warn));
        let tell = tell(maker.events, number);
        let trapped = tell.clone();
        let commons = maker.commons.borrow_mut().of(&served.config.name);
        let around = Around {
            streams: streams(&served.config.name, limits, &commons, &metrics, &warnings),
            metrics,
            warnings,
            alarm: Alarm::new(move || trapped(Event::Trapped)),
            commons,
            closed: maker.closed.to_vec(),
            given: maker.given.clone(),
            resolver: maker.resolver.clone(),
            messages: maker.messages,
            group: group(served.weight),
            access_log: maker.access_log,
            shares: Some(&ground.room.shares),
            roster: maker.seen.then(Arc::default),
        };
        let mut context = context(served.config.clone(), &room, around)?;
        // One version's program hands its sockets to the next.
        let shared = before.and_then(|before| before.context().shared_listeners.clone());
        let mut inherited = None;
        context.shared_listeners = (room.copies > 0).then(|| {
            shared.unwrap_or_else(|| {
                let handed = maker.handed.borrow_mut().of_program(&served.config.name);
                let (shared, shares) = SharedListeners::handed(handed);
                inherited = Some((Instant::now() + FOR_EVER, shares));
                shared
            })
        });
        let sandbox = Sandbox { context: Arc::new(context), loaded, pooled };
        let tenant = Tenant::new(sandbox, *role, ground.handles.clone(), tell);
        Ok(Self {
            tenant,
            plan: plan.clone(),
            ground: ground.clone(),
            began: Instant::now(),
            trial: None,
            copies: (0..room.copies).map(|_| Copy::new(limits)).collect(),
            listens: Vec::new(),
            failed: 0,
            leaves_at: None,
            inherited,
        })
    }

    /// The same anew, of the component as it was loaded.
    pub(super) fn again(&self, maker: &Maker<'_>, number: usize) -> Result<Self, StartError> {
        let again = Self::new(maker, &self.plan, self.tenant.component(), number, Some(self))?;
        Ok(Self { trial: self.trial.clone(), ..again })
    }

    /// With a trial, from its start on.
    pub(super) fn on_trial(self, trial: Option<Trial>) -> Self {
        Self { trial, ..self }
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        self.tenant.context()
    }

    /// Starts it.
    pub(super) fn start(&mut self, sockets: Vec<TcpListener>) -> Result<(), StartError> {
        let now = Instant::now();
        self.began = now;
        self.hold();
        self.trial = self.trial.take().map(Trial::again);
        let inherited = self.context().shared_listeners.as_ref().map(SharedListeners::kept);
        // If it is rolled back, they are for the one that comes then.
        let inherited_for =
            self.trial.as_ref().map_or(INHERITED_FOR, |trial| trial.within().max(INHERITED_FOR));
        self.inherited = inherited.map(|shares| (now + inherited_for, shares));
        self.tenant.run(self.copies.len())?;
        self.copies.iter_mut().for_each(|copy| copy.runs = true);
        for socket in sockets {
            let address = self.tenant.serve(&socket)?;
            self.listens.push(self.context().listening.add(address));
            self.context().announce(address);
        }
        Ok(())
    }

    /// Its limits are those of all versions from now on.
    pub(super) fn hold(&self) {
        self.context().commons.hold_to(self.context());
    }

    /// How its trial has ended, if it has.
    pub(super) fn judge(&mut self, now: Instant) -> Option<Verdict> {
        let (context, role) = (self.tenant.context(), self.tenant.role());
        let trial = self.trial.as_mut()?;
        context.alarm.arm();
        let verdict = trial.judge(now, context, role)?;
        self.trial = None;
        Some(verdict)
    }

    /// What is to come back, should a version that takes its place fail: none if it does no better.
    pub(super) fn good(&self) -> Option<&Arc<Plan>> {
        if let Some(before) = self.trial.as_ref().and_then(Trial::before) {
            return Some(before);
        }
        let rule = self.plan.served.rollback.unwrap_or_default();
        does_well(&rule, self.context(), self.tenant.role(), self.began.elapsed()).then_some(&self.plan)
    }

    /// Whether it is to be seen yet if it stays.
    pub(super) fn is_on_trial(&self) -> bool {
        self.trial.is_some()
    }

    /// As the admin tells of it, with what is left of the versions before it, and what has been rolled back.
    pub(super) fn registered(
        &self,
        older: Vec<Arc<Context>>,
        (rollbacks, rolled_back): (u64, Option<String>),
    ) -> Registered {
        let (context, role) = (self.context().clone(), self.tenant.role());
        Registered { context, role, state: self.state(), older, rollbacks, rolled_back }
    }

    fn state(&self) -> State {
        let runs = self.tenant.role().is_handler() || self.copies.iter().any(|copy| copy.runs);
        let waits = self.copies.iter().any(|copy| copy.start_at.is_some());
        match self.leaves_at {
            Some(_) => State::Draining,
            None if self.failed > 0 => State::Failed,
            None if runs => State::Running,
            None if waits => State::Waiting,
            None => State::Ended,
        }
    }

    /// What its program has bound, for the next version of the host.
    pub(super) fn bound(&self) -> io::Result<Vec<(Key, OwnedFd)>> {
        let Some(shared) = &self.context().shared_listeners else { return Ok(Vec::new()) };
        let tenant = &self.context().name;
        let key = |(address, nth, socket): (_, _, TcpListener)| {
            (Key::Program { tenant: tenant.clone(), address, nth }, socket.into())
        };
        Ok(shared.duplicates()?.into_iter().map(key).collect())
    }

    /// Whether it serves in the place of that other version, and has all of what waits to be accepted there.
    pub(super) fn succeeds(&self, other: &Self) -> bool {
        let listens = |at: &Listens| self.listens.iter().any(|own| own.address() == at.address());
        self.leaves_at.is_none()
            && self.context().name == other.context().name
            && other.listens.iter().all(listens)
    }

    /// Begins its end: nothing new is accepted, and what is under way may take as long as the drain. Its successor has what
    /// waits to be accepted.
    pub(super) fn leave(&mut self, now: Instant, has_successor: bool) {
        if self.leaves_at.is_none() {
            self.leaves_at = Some(now + self.context().limits.drain_max);
            self.copies.iter_mut().for_each(|copy| copy.start_at = None);
            self.listens.clear();
            self.inherited = None;
            self.trial = None;
            self.tenant.drain(has_successor);
        }
    }

    /// When there is something to do for it next.
    pub(super) fn due(&self) -> Option<Instant> {
        let starts = self.copies.iter().filter_map(|copy| copy.start_at);
        let inherited = self.inherited.as_ref().map(|(until, _)| *until);
        let judged = self.trial.as_ref().map(|trial| trial.due(self.tenant.role()));
        starts.chain(self.leaves_at).chain(inherited).chain(judged).min()
    }

    /// Does what is due; whether that was to cut off what is left.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        if self.inherited.as_ref().is_some_and(|(until, _)| *until <= now) {
            self.inherited = None;
        }
        let cut_off = self.leaves_at.is_some_and(|at| at <= now);
        if cut_off {
            let left = self.context().coroutines.used();
            warn!(tenant = %self.context().name, "the drain's deadline has passed: cutting off {left} coroutines");
            self.context().metrics.cut_off.add(left);
            self.tenant.cut_off();
            // Once is enough.
            self.leaves_at = Some(now + FOR_EVER);
        }
        self.start_due(now);
        cut_off
    }

    /// A copy of its program has ended: it is started again, if that is wanted.
    pub(super) fn ended(&mut self, number: usize, ended: &Ended) {
        self.copies[number].runs = false;
        if self.leaves_at.is_some() {
            return;
        }
        let failed = !matches!(ended, Ended::Returned(Ok(())) | Ended::Exit(0));
        let how = match ended {
            Ended::Returned(Ok(())) => "returned".to_owned(),
            Ended::Returned(Err(())) => "returned an error".to_owned(),
            Ended::Exit(code) => format!("exited with {code}"),
            Ended::Trapped(_) => "trapped".to_owned(),
            Ended::Orphaned => "was ended".to_owned(),
        };
        let again = match self.plan.served.restart {
            Restart::Always => true,
            Restart::OnFailure => failed,
            Restart::Never => false,
        };
        let name = self.context().name.clone();
        if !again {
            info!(tenant = %name, "the program {how}, and is not started again");
            return;
        }
        let now = Instant::now();
        let copy = &mut self.copies[number];
        let wait = copy.supervisor.ended(now);
        copy.start_at = Some(now + wait);
        match wait {
            Duration::ZERO => warn!(tenant = %name, "the program {how}: starting it again"),
            wait => warn!(tenant = %name, "the program {how}, too often: starting it again in {wait:?}"),
        }
        self.start_due(now);
    }

    pub(super) fn start_due(&mut self, now: Instant) {
        for number in 0..self.copies.len() {
            if self.copies[number].start_at.is_none_or(|at| at > now) {
                continue;
            }
            self.copies[number].start_at = None;
            self.context().metrics.restarts.increment();
            self.copies[number].runs = true;
            if let Err(error) = self.tenant.run_copy(number) {
                self.copies[number].runs = false;
                let wait = self.copies[number].supervisor.ended(now).max(RETRY);
                self.copies[number].start_at = Some(now + wait);
                warn!(tenant = %self.context().name, "cannot start the program, trying again in {wait:?}: {error}");
            }
        }
    }
}

/// The share of a tenant: with a weight of 1 that of the host's own tasks.
fn group(weight: NonZeroU32) -> Group {
    Group::new(Group::DEFAULT_WEIGHT.saturating_mul(weight))
}

fn streams(
    name: &str,
    limits: &Limits,
    commons: &Commons,
    metrics: &Arc<Metrics>,
    warnings: &Arc<Warnings>,
) -> Streams {
    let (rate, line) = (commons.log_bytes.clone(), limits.log_line_bytes_max);
    let log = GuestLog::new(name, rate, line, metrics.clone(), warnings.clone());
    Streams {
        stdin: false,
        stdout: GuestOutput::Log { log: log.clone(), stream: "stdout" },
        stderr: GuestOutput::Log { log, stream: "stderr" },
    }
}

/// Before another attempt to start what could not be started.
const RETRY: Duration = Duration::from_secs(1);
/// How long the sockets of the version before are kept for a program that has not taken them.
const INHERITED_FOR: Duration = Duration::from_secs(10);
/// No process lasts that long.
const FOR_EVER: Duration = Duration::from_secs(1 << 32);
