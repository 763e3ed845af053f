//! What `/coroutines` tells: of all that are there, those that have been in their state for longest.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    net::SocketAddr,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::Observed;
use crate::{
    clock,
    roster::{Coroutine, Doing, Roster},
};

/// The coroutines of one version of a tenant.
#[derive(Debug, Clone)]
pub struct TenantRoster {
    /// The tenant's name.
    pub tenant: String,
    /// It accepts nothing new.
    pub draining: bool,
    /// Who is there.
    pub roster: Arc<Roster>,
}

/// Which coroutines are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    tenant: Option<String>,
    state: Option<Doing>,
    limit: usize,
    /// With where their guests are.
    pub(super) stacks: bool,
}

/// What is told of them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Told {
    /// How many are in which state, of each tenant that was asked for.
    pub(super) counts: BTreeMap<String, BTreeMap<String, u64>>,
    /// How many were asked for.
    pub(super) matching: u64,
    /// Of them, those that are not below.
    pub(super) left_out: u64,
    /// Those in their state for longest first.
    pub(super) coroutines: Vec<CoroutineStatus>,
}

/// A coroutine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct CoroutineStatus {
    /// As in the log.
    pub(super) id: u64,
    pub(super) tenant: String,
    /// Its version of the tenant accepts nothing new.
    pub(super) draining: bool,
    /// What it was started as.
    pub(super) kind: String,
    /// What it does.
    pub(super) state: String,
    /// For how long.
    pub(super) state_seconds: f64,
    /// In samples of a millisecond.
    pub(super) cpu_seconds: f64,
    /// Its instance, by the first coroutine in it.
    pub(super) instance: u64,
    /// Others are in the instance, too.
    pub(super) shared: bool,
    /// The instance's memories and tables.
    pub(super) memory_bytes: u64,
    /// The other side of its connection.
    pub(super) peer: Option<SocketAddr>,
    /// If it was asked for, and one was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stack: Option<StackStatus>,
}

/// Where a coroutine's guest was.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct StackStatus {
    /// What it did then.
    pub(super) state: String,
    /// Since then.
    pub(super) age_seconds: f64,
    /// Innermost first.
    pub(super) frames: Vec<String>,
}

impl FromStr for Query {
    type Err = String;

    /// From the query of a URL.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut query = Self { tenant: None, state: None, limit: LIMIT, stacks: false };
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, "1"));
            match key {
                "tenant" => query.tenant = Some(value.to_owned()),
                "state" => query.state = Some(state(value)?),
                "limit" => query.limit = limit(value)?,
                "stacks" => query.stacks = value != "0",
                _ => return Err(format!("`{key}` is unknown: there are tenant, state, limit and stacks")),
            }
        }
        Ok(query)
    }
}

fn state(name: &str) -> Result<Doing, String> {
    let names = || Doing::ALL.iter().map(|doing| doing.name()).collect::<Vec<_>>().join(", ");
    let found = Doing::ALL.iter().find(|doing| doing.name() == name).copied();
    found.ok_or_else(|| format!("there is no state `{name}`; there are {}", names()))
}

fn limit(text: &str) -> Result<usize, String> {
    let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| format!("limit is a number from 1 to {LIMIT_MAX}"))
}

/// Those that are there now. With stacks, it waits a moment for those that are still to be taken.
pub(super) async fn coroutines(observed: &dyn Observed, query: &Query) -> Told {
    let mut look = Look::at(observed, query);
    if query.stacks {
        look.shown.truncate(STACKS_MAX);
        look.shown.iter().for_each(|seen| seen.coroutine.want_stack());
        let until = Instant::now() + STACKS_PATIENCE;
        while look.shown.iter().any(|seen| seen.coroutine.stacks.wanted()) && Instant::now() < until {
            sleep(STACKS_EVERY).await;
            clock::set();
        }
    }
    look.told(query.stacks)
}

/// What was found.
struct Look {
    counts: BTreeMap<String, BTreeMap<String, u64>>,
    matching: u64,
    shown: Vec<Seen>,
}

/// A coroutine, and how it was found.
struct Seen {
    tenant: Arc<TenantRoster>,
    doing: Doing,
    time: Duration,
    coroutine: Arc<Coroutine>,
}

impl Look {
    fn at(observed: &dyn Observed, query: &Query) -> Self {
        // It stands still while all workers sleep.
        clock::set();
        let mut counts: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        let mut matching = 0;
        // The shortest time first, to be replaced by a longer one.
        let mut longest = BinaryHeap::new();
        let mut seen = Vec::new();
        let rosters = observed.rosters();
        for tenant in
            rosters.into_iter().filter(|one| query.tenant.as_ref().is_none_or(|name| one.tenant == *name))
        {
            let tenant = Arc::new(tenant);
            let mut states = vec![0_u64; Doing::ALL.len()];
            tenant.roster.for_each(|coroutine| {
                let (doing, time) = coroutine.doing();
                states[doing as usize] += 1;
                if query.state.is_some_and(|state| state != doing) {
                    return;
                }
                matching += 1;
                let found = Seen { tenant: tenant.clone(), doing, time, coroutine };
                let order = |place| Reverse((time, Reverse(found.coroutine.id), place));
                if seen.len() < query.limit {
                    longest.push(order(seen.len()));
                    seen.push(found);
                } else if let Some(mut shortest) = longest.peek_mut()
                    && shortest.0.0 < time
                {
                    let place = shortest.0.2;
                    *shortest = order(place);
                    seen[place] = found;
                }
            });
            let named = counts.entry(tenant.tenant.clone()).or_default();
            for (doing, count) in Doing::ALL.iter().zip(states).filter(|(_, count)| *count > 0) {
                *named.entry(doing.name().to_owned()).or_default() += count;
            }
        }
        seen.sort_by_key(|seen| (Reverse(seen.time), seen.coroutine.id));
        Self { counts, matching, shown: seen }
    }

    fn told(self, stacks: bool) -> Told {
        let coroutines: Vec<_> = self.shown.iter().map(|seen| seen.told(stacks)).collect();
        let left_out = self.matching - coroutines.len() as u64;
        Told { counts: self.counts, matching: self.matching, left_out, coroutines }
    }
}

impl Seen {
    fn told(&self, stacks: bool) -> CoroutineStatus {
        let coroutine = &self.coroutine;
        let stack = coroutine.stacks.last().filter(|_| stacks).map(|(stack, age_ms)| StackStatus {
            state: stack.doing.name().to_owned(),
            age_seconds: age_ms as f64 / 1e3,
            frames: stack.frames,
        });
        CoroutineStatus {
            id: coroutine.id,
            tenant: self.tenant.tenant.clone(),
            draining: self.tenant.draining,
            kind: coroutine.kind.name().to_owned(),
            state: self.doing.name().to_owned(),
            state_seconds: self.time.as_secs_f64(),
            cpu_seconds: coroutine.cpu().as_secs_f64(),
            instance: coroutine.instance.id,
            shared: coroutine.instance.shared,
            memory_bytes: coroutine.instance.memory_bytes(),
            peer: coroutine.peer(),
            stack,
        }
    }
}

/// If nothing else is asked for: as many as one looks through.
const LIMIT: usize = 50;
const LIMIT_MAX: usize = 10_000;
/// Stacks of one look: to name what is in them takes the workers' time.
const STACKS_MAX: usize = 100;
/// How long the answer waits for stacks.
const STACKS_PATIENCE: Duration = Duration::from_millis(500);
const STACKS_EVERY: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        admin::{HostStatus, Observation, Order},
        roster::{Instance, Kind, Present},
    };

    struct Host(Vec<TenantRoster>);

    impl Observed for Host {
        fn host(&self) -> HostStatus {
            unreachable!("it is not asked for")
        }

        fn tenants(&self) -> Vec<Observation> {
            Vec::new()
        }

        fn rosters(&self) -> Vec<TenantRoster> {
            self.0.clone()
        }

        fn exported(&self, _taken: bool) {}

        fn order(&self, _: Order) {}
    }

    fn host(tenants: &[&str]) -> Host {
        let tenant = |name: &&str| TenantRoster {
            tenant: (*name).to_owned(),
            draining: false,
            roster: Arc::default(),
        };
        Host(tenants.iter().map(tenant).collect())
    }

    fn enter(host: &Host, tenant: usize, id: u64, doing: Doing) -> Present {
        let coroutine = Coroutine::new(id, Kind::Connection, Instance::new(id, false), None);
        coroutine.begin(doing);
        host.0[tenant].roster.enter(coroutine)
    }

    fn look(host: &Host, query: &str) -> Told {
        let query = query.parse().expect("a query");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(coroutines(host, &query))
    }

    fn ids(told: &Told) -> Vec<u64> {
        told.coroutines.iter().map(|one| one.id).collect()
    }

    /// A later millisecond of the clock.
    fn tick() {
        let before = clock::now_ms();
        while clock::now_ms() <= before {
            clock::set();
        }
    }

    #[test]
    fn the_longest_in_their_state_come_first_and_the_rest_is_counted() {
        let host = host(&["a", "b"]);
        let mut present = Vec::new();
        for id in 0..100 {
            present.push(enter(
                &host,
                (id % 2) as usize,
                id,
                if id % 4 == 0 { Doing::Send } else { Doing::Recv },
            ));
            tick();
        }
        let told = look(&host, "limit=7");
        assert_eq!((ids(&told), told.matching, told.left_out), (vec![0, 1, 2, 3, 4, 5, 6], 100, 93));
        // One that goes on and waits again is the last.
        present[0].begin(Doing::Recv);
        let told = look(&host, "tenant=a&limit=3&state=recv");
        assert_eq!((ids(&told), told.matching), (vec![2, 6, 10], 26));
        assert_eq!(told.counts.len(), 1);
        assert_eq!(told.counts["a"], BTreeMap::from([("recv".to_owned(), 26), ("send".to_owned(), 24)]));
        assert_eq!(look(&host, "").coroutines.len(), LIMIT);
        drop(present);
        assert_eq!(look(&host, "").matching, 0);
    }

    #[test]
    fn a_wrong_query_is_told_what_there_is() {
        for (query, says) in [
            ("state=recving", "pool-wait"),
            ("limit=0", "from 1 to"),
            ("limit=1000000", "from 1 to"),
            ("limit=x", "from 1 to"),
            ("tenants=a", "tenant, state, limit and stacks"),
        ] {
            let error = query.parse::<Query>().expect_err(query);
            assert!(error.contains(says), "{query}: {error}");
        }
    }
}
