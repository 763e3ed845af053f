//! What the guest's entry function may return.

use std::fmt::Debug;

/// Nothing, or a `Result` whose error can be shown.
pub trait Outcome {
    /// Whether it went well.
    fn is_ok(&self) -> bool;

    /// Tells standard error why it did not.
    fn report(&self);
}

impl Outcome for () {
    fn is_ok(&self) -> bool {
        true
    }

    fn report(&self) {}
}

impl<E: Debug> Outcome for Result<(), E> {
    fn is_ok(&self) -> bool {
        self.is_ok()
    }

    fn report(&self) {
        if let Err(error) = self {
            eprintln!("Error: {error:?}");
        }
    }
}
