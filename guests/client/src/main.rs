//! The client: it sends, receives and checks every byte, over connections of its own or over a pool that its coroutines
//! share.

mod args;
mod exchange;

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use conet::net::TcpStream;
use conet::pool::{Options, Pool};

use args::Args;
use exchange::Exchange;

#[conet::main]
fn main() -> Result<(), String> {
    let args = args::parse_or_exit();
    let start = Instant::now();
    let tally = Rc::new(Tally::default());
    let (opened, reused) = match args.pool {
        None => (own_connections(&args, &tally), 0),
        Some(max_open) => shared_pool(&args, max_open, &tally).map_err(|error| error.to_string())?,
    };
    let (requests, errors) = (tally.requests.get(), tally.errors.get());
    let seconds = start.elapsed().as_secs_f64();
    println!("requests={requests} opened={opened} reused={reused} errors={errors} seconds={seconds:.3}");
    if errors == 0 { Ok(()) } else { Err(format!("{errors} errors")) }
}

/// What the coroutines have done.
#[derive(Default)]
struct Tally {
    requests: Cell<u64>,
    opened: Cell<u64>,
    errors: Cell<u64>,
}

impl Tally {
    fn count(&self, result: io::Result<()>) {
        if let Err(error) = result {
            add_one(&self.errors);
            eprintln!("{error}");
        }
    }
}

/// connect; loop { send; recv; check }; close.
fn own_connections(args: &Args, tally: &Rc<Tally>) -> u64 {
    let (target, size) = (args.target.clone(), args.size);
    each_coroutine(args.connections, args.requests, tally, move |tally, requests| {
        let conn = TcpStream::connect(&target)?;
        add_one(&tally.opened);
        let mut exchange = Exchange::new(size);
        for _ in 0..requests {
            exchange.run(&conn)?;
            add_one(&tally.requests);
        }
        conn.close();
        Ok(())
    });
    tally.opened.get()
}

/// loop { get; send; recv; check }, the connection going back each time.
fn shared_pool(args: &Args, max_open: u32, tally: &Rc<Tally>) -> io::Result<(u64, u64)> {
    let options = Options { max_open, max_idle: max_open, ..Options::default() };
    let pool = Rc::new(Pool::open_with(&args.target, options)?);
    let (shared, size) = (Rc::clone(&pool), args.size);
    each_coroutine(args.coroutines, args.requests, tally, move |tally, requests| {
        let mut exchange = Exchange::new(size);
        for _ in 0..requests {
            exchange.run(&shared.get()?)?;
            add_one(&tally.requests);
        }
        Ok(())
    });
    let stats = pool.stats();
    Ok((stats.opened, stats.reused))
}

/// Splits the requests over that many coroutines, and waits for all of them.
fn each_coroutine(
    coroutines: u64,
    requests: u64,
    tally: &Rc<Tally>,
    work: impl Fn(&Tally, u64) -> io::Result<()> + 'static,
) {
    let work = Rc::new(work);
    for index in 0..coroutines {
        let share = requests / coroutines + u64::from(index < requests % coroutines);
        let (worker, counted) = (Rc::clone(&work), Rc::clone(tally));
        if let Err(error) = conet::go(move || counted.count(worker(&counted, share))) {
            tally.count(Err(error));
        }
    }
    // Each coroutine holds one.
    while Rc::strong_count(&work) > 1 {
        conet::sleep(Duration::from_millis(1));
    }
}

fn add_one(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use conet::net::TcpListener;
    use std::io::{Read, Write};

    /// A server that answers every byte with what `answer` makes of it.
    fn serve(answer: fn(u8) -> u8) -> io::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        conet::go(move || {
            for conn in listener.incoming() {
                let mut conn = conn?;
                conet::go(move || {
                    let mut buf = [0; 1000];
                    loop {
                        let received = conn.read(&mut buf)?;
                        if received == 0 {
                            return io::Result::Ok(());
                        }
                        let answer: Vec<u8> = buf[..received].iter().map(|byte| answer(*byte)).collect();
                        conn.write_all(&answer)?;
                    }
                })?;
            }
            io::Result::Ok(())
        })?;
        Ok(address)
    }

    fn args(target: String) -> Args {
        Args { target, connections: 3, requests: 10, size: 50_000, pool: None, coroutines: 5 }
    }

    #[test]
    fn each_coroutine_has_its_own_connection() {
        let (requests, opened, errors) = conet::run(|| {
            let tally = Rc::new(Tally::default());
            let opened = own_connections(&args(serve(|byte| byte).unwrap()), &tally);
            (tally.requests.get(), opened, tally.errors.get())
        });
        assert_eq!((requests, opened, errors), (10, 3, 0));
    }

    #[test]
    fn a_pool_opens_no_more_than_its_maximum() {
        let (requests, opened, reused) = conet::run(|| {
            let tally = Rc::new(Tally::default());
            let args = args(serve(|byte| byte).unwrap());
            let (opened, reused) = shared_pool(&args, 2, &tally).unwrap();
            (tally.requests.get(), opened, reused)
        });
        assert_eq!(requests, 10);
        assert!((1..=2).contains(&opened), "{opened}");
        assert_eq!(opened + reused, 10);
    }

    #[test]
    fn a_wrong_byte_is_an_error() {
        let errors = conet::run(|| {
            let tally = Rc::new(Tally::default());
            own_connections(&args(serve(|byte| byte ^ 1).unwrap()), &tally);
            tally.errors.get()
        });
        assert_eq!(errors, 3);
    }
}
