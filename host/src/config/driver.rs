//! What workers wait for their sockets with.

use std::str::FromStr;

use thiserror::Error;

/// Which driver, or who is to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Driver {
    /// io_uring where it can be had, else epoll.
    #[default]
    Auto,
    /// epoll.
    Epoll,
    /// io_uring, or nothing.
    IoUring,
}

/// Text that names no driver.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not a driver: write `auto`, `epoll` or `io-uring`")]
pub struct DriverError(String);

impl FromStr for Driver {
    type Err = DriverError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Driver::Auto),
            "epoll" => Ok(Driver::Epoll),
            "io-uring" => Ok(Driver::IoUring),
            _ => Err(DriverError(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_are_named_in_full() {
        let named = [("auto", Driver::Auto), ("epoll", Driver::Epoll), ("io-uring", Driver::IoUring)];
        for (text, driver) in named {
            assert_eq!(text.parse(), Ok(driver));
        }
        for text in ["", "Epoll", "uring", "io_uring", "kqueue"] {
            assert_eq!(text.parse::<Driver>(), Err(DriverError(text.to_owned())));
        }
    }
}
