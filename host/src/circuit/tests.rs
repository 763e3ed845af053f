use super::*;

fn circuit() -> Arc<Circuit> {
    Circuit::new(&CircuitLimits { traps_max: 5, window: WINDOW })
}

const WINDOW: Duration = Duration::from_secs(30);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Traps until it opens; gives how many that were.
fn trap(circuit: &Circuit, now: Instant) -> (usize, Duration) {
    for traps in 1..100 {
        if let Some(Change::Opened(_, wait)) = circuit.trapped(now) {
            return (traps, wait);
        }
    }
    panic!("it stays closed");
}

#[test]
fn five_traps_in_a_row_open_it() {
    let (circuit, now) = (circuit(), Instant::now());
    assert_eq!(trap(&circuit, now), (5, seconds(1)));
    assert!(circuit.is_open() && circuit.admit(now).is_none());
    assert_eq!(circuit.open_until(now), Some(now + seconds(1)));
}

#[test]
fn a_success_between_them_begins_the_count_anew() {
    let (circuit, now) = (circuit(), Instant::now());
    for _ in 0..100 {
        (0..4).for_each(|_| assert_eq!(circuit.trapped(now), None));
        let pass = circuit.admit(now).expect("closed");
        assert_eq!(pass.succeeded(), None);
    }
    assert!(!circuit.is_open());
}

#[test]
fn traps_far_apart_do_not() {
    let (circuit, now) = (circuit(), Instant::now());
    for nth in 0..100 {
        assert_eq!(circuit.trapped(now + seconds(8) * nth), None, "four in 30 s");
    }
}

#[test]
fn one_is_let_through_after_ever_longer_waits() {
    let (circuit, mut now) = (circuit(), Instant::now());
    trap(&circuit, now);
    let mut waits = Vec::new();
    for _ in 0..8 {
        now = circuit.open_until(now).expect("open");
        let probe = circuit.admit(now).expect("it is time");
        assert!(circuit.admit(now).is_none(), "one at a time");
        let Some(Change::StillOpen(wait)) = circuit.probed(now, true) else { panic!("it trapped") };
        mem::forget(probe);
        waits.push(wait.as_secs());
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
}

#[test]
fn its_success_closes_it_and_a_relapse_goes_on_where_it_was() {
    let (circuit, now) = (circuit(), Instant::now());
    trap(&circuit, now);
    let probe = circuit.admit(now + seconds(1)).expect("it is time");
    assert_eq!(probe.succeeded(), Some(Change::Closed));
    assert!(!circuit.is_open() && circuit.admit(now).is_some());
    assert_eq!(trap(&circuit, now), (5, seconds(2)));
    let probe = circuit.admit(now + seconds(3)).expect("it is time");
    assert_eq!(probe.succeeded(), Some(Change::Closed));
    assert_eq!(trap(&circuit, Instant::now() + WINDOW), (5, seconds(1)), "it had been well for long");
}

#[test]
fn one_that_never_was_served_makes_room_for_the_next() {
    let (circuit, now) = (circuit(), Instant::now());
    trap(&circuit, now);
    drop(circuit.admit(now + seconds(1)).expect("it is time"));
    let later = Instant::now() + seconds(1);
    assert_eq!(circuit.open_until(later), None);
    let probe = circuit.admit(later).expect("in its place");
    drop(probe);
    // An instance of many connections is gone with the one that was let through.
    let Some(Change::StillOpen(wait)) = circuit.trapped(Instant::now()) else { panic!("still open") };
    assert_eq!(wait, seconds(2));
}

#[test]
fn one_that_lives_for_long_is_a_success() {
    let (circuit, now) = (circuit(), Instant::now());
    trap(&circuit, now);
    let probe = circuit.admit(now + seconds(1)).expect("it is time");
    assert!(circuit.admit(now + seconds(30)).is_none());
    assert!(circuit.admit(now + seconds(31)).is_some());
    assert!(!circuit.is_open());
    assert_eq!(probe.succeeded(), None);
}

#[test]
fn what_began_before_says_nothing_while_it_is_open() {
    let (circuit, now) = (circuit(), Instant::now());
    let before: Vec<_> = (0..3).map(|_| circuit.admit(now).expect("closed")).collect();
    trap(&circuit, now + seconds(5));
    for (nth, pass) in before.into_iter().enumerate() {
        assert_eq!(if nth == 0 { pass.succeeded() } else { pass.trapped() }, None);
    }
    assert_eq!(circuit.open_until(now + seconds(5)), Some(now + seconds(6)));
}
