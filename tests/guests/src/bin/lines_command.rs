//! Prints which line of this file it is about to be at, and panics there: an ordinary program.

fn main() {
    println!("{}", line!() + 1);
    panic!("as it always does");
}
