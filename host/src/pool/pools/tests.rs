//! Which pools a tenant has.

use std::{io::Read, time::Duration};

use super::*;
use crate::pool::tests::{Server, get, limits, on_worker};

#[test]
fn the_same_target_and_options_are_the_same_pool() {
    let pools = Pools::new(&limits(), false);
    let target = || Target::Name("db".into(), 1);
    let defaults = cut(None, &limits());
    let one = pools.open(target(), None).unwrap();
    let same = pools.open(target(), Some(defaults.clone())).unwrap();
    assert!(Arc::ptr_eq(&one.0, &same.0));
    let greedy = PoolOptions { open_max: 1_000_000, age_max: Duration::ZERO, ..defaults.clone() };
    assert!(Arc::ptr_eq(&one.0, &pools.open(target(), Some(greedy)).unwrap().0), "cut to the limits");
    let other = PoolOptions { open_max: 2, ..defaults };
    assert!(!Arc::ptr_eq(&one.0, &pools.open(target(), Some(other)).unwrap().0));
    assert!(!Arc::ptr_eq(&one.0, &pools.open(Target::Name("db".into(), 2), None).unwrap().0));
}

#[test]
fn pools_are_bounded_and_the_longest_unused_makes_room() {
    on_worker(async {
        let server = Server::new();
        let pools = Pools::new(&Limits { pools_max: 2, ..limits() }, false);
        let open = |port| pools.open(Target::Name("db".into(), port), None);
        drop(get(&open(1).unwrap(), &server).await);
        let two = open(2).unwrap();
        assert_eq!(pools.stats().idle, 1);
        let three = open(3).unwrap();
        assert_eq!(server.accept().read(&mut [0]).unwrap(), 0, "the first and its connection made room");
        assert_eq!(open(4).err(), Some(TooManyPools));
        drop(two);
        // A lent connection keeps its pool.
        let lent = get(&three, &server).await;
        drop(three);
        assert!(open(4).is_ok() && open(5).is_ok());
        drop(lent);
        assert_eq!(server.quota.used(), 1);
    });
}

#[test]
fn idle_connections_of_all_pools_can_be_closed() {
    on_worker(async {
        let server = Server::new();
        let pools = Pools::new(&limits(), false);
        let open = |port| pools.open(Target::Name("db".into(), port), None).unwrap();
        for port in 1..=3 {
            drop(get(&open(port), &server).await);
        }
        assert!(pools.close_oldest_idle());
        assert_eq!(open(1).stats().idle, 0, "the first has been idle longest");
        assert_eq!(pools.stats().idle, 2);
        pools.close_idle();
        assert_eq!((pools.stats().open, pools.stats().discarded_total(), server.quota.used()), (0, 3, 0));
        assert!(!pools.close_oldest_idle());
    });
}

#[test]
fn a_lenient_limit_tells_of_each_new_pool_beyond_it() {
    let pools = Pools::new(&Limits { pools_max: 1, ..limits() }, true);
    let open = |port| pools.open_counted(Target::Name("db".into(), port), None).expect("all are opened");
    let (first, none) = open(1);
    let (second, two) = open(2);
    assert_eq!((none, two), (None, Some(2)));
    assert_eq!(open(2).1, None, "it is there already");
    drop(second);
    let (_third, beyond) = open(3);
    assert_eq!(beyond, Some(2), "the unused one made room");
    drop(first);
    assert_eq!(open(4).1, Some(2), "and would have, had the first not been in use");
}
