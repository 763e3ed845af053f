//! A hundred coroutines share plain `Rc` state, each waiting between reading and writing other parts of it.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

#[conet::main]
fn main() -> io::Result<()> {
    let sum = Rc::new(Cell::new(0));
    let order = Rc::new(RefCell::new(Vec::new()));
    for coroutine in 0..COROUTINES {
        let (sum, order) = (Rc::clone(&sum), Rc::clone(&order));
        conet::go(move || {
            for turn in 0..TURNS {
                sum.set(sum.get() + 1);
                order.borrow_mut().push((turn, coroutine));
                if coroutine % 2 == 0 { conet::yield_now() } else { conet::sleep(Duration::from_millis(1)) }
            }
        })?;
    }
    while Rc::strong_count(&sum) > 1 {
        conet::sleep(Duration::from_millis(1));
    }
    let mut order = order.take();
    order.sort_unstable();
    let all = (0..TURNS).flat_map(|turn| (0..COROUTINES).map(move |coroutine| (turn, coroutine)));
    if sum.get() != COROUTINES * TURNS || !order.into_iter().eq(all) {
        println!("sum={} of {}", sum.get(), COROUTINES * TURNS);
        std::process::exit(1);
    }
    println!("sum={}", sum.get());
    Ok(())
}

const COROUTINES: u32 = 100;
const TURNS: u32 = 10;
