//! Starts coroutines until one is refused: the refused closure is dropped with what it holds, and the program goes on.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

#[conet::main]
fn main() -> io::Result<()> {
    let (open, dropped) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
    let mut started = 0_u64;
    let error = loop {
        match conet::go(waiter(&open, &dropped)) {
            Ok(_) => started += 1,
            Err(error) => break error,
        }
    };
    println!("started={started} error={error}");
    if dropped.get() != 1 {
        println!("dropped={} closures, not the refused one", dropped.get());
        std::process::exit(1);
    }

    open.set(true);
    while dropped.get() <= started {
        conet::sleep(Duration::from_millis(1));
    }
    println!("ended={started}");
    conet::go(waiter(&open, &dropped))?;
    // There is room again.
    while dropped.get() < started + 2 {
        conet::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Waits until it is open, and counts when it is dropped, having run or not.
fn waiter(open: &Rc<Cell<bool>>, dropped: &Rc<Cell<u64>>) -> impl FnOnce() + 'static {
    let (open, counter) = (Rc::clone(open), CountDrop(Rc::clone(dropped)));
    move || {
        let _counter = counter;
        while !open.get() {
            conet::sleep(Duration::from_millis(1));
        }
    }
}

struct CountDrop(Rc<Cell<u64>>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}
