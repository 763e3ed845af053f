//! Starting the workers, with the driver that is wanted or the one that can be had.

use std::io;

use conet_rt::{DriverKind, Worker, WorkerConfig};
use tracing::info;

use crate::{config::driver::Driver, exit::StartError, sandbox::ticker::Ticker};

/// Starts so many.
pub(super) fn start_workers(
    count: usize,
    driver: Driver,
    ticker: Option<&Ticker>,
) -> Result<Vec<Worker>, StartError> {
    let config = |index, driver| WorkerConfig {
        name: format!("worker-{index}"),
        driver,
        hooks: ticker.map(|ticker| Box::new(ticker.hooks()) as _),
    };
    with_driver(driver, |kind| {
        kind.check()?;
        (0..count).map(|index| Worker::start(config(index, kind))).collect()
    })
}

/// All of it with one driver. It may fail where a single ring can be had: they all count against one limit on memory.
fn with_driver<T>(driver: Driver, start: impl Fn(DriverKind) -> io::Result<T>) -> Result<T, StartError> {
    if driver != Driver::Epoll {
        match start(DriverKind::IoUring) {
            Ok(started) => {
                info!("driver: io_uring");
                return Ok(started);
            }
            Err(error) if driver == Driver::IoUring => return Err(StartError::Driver(error)),
            Err(error) => info!("driver: epoll, because {error}"),
        }
    }
    Ok(start(DriverKind::Epoll)?)
}

#[cfg(test)]
mod tests {
    use conet_rt::Unavailable;

    use super::*;
    use crate::exit::Exit;

    fn anywhere(kind: DriverKind) -> io::Result<DriverKind> {
        Ok(kind)
    }

    fn forbidden(kind: DriverKind) -> io::Result<DriverKind> {
        match kind {
            DriverKind::IoUring => Err(Unavailable::from(io::Error::from_raw_os_error(1)).into()),
            kind => Ok(kind),
        }
    }

    #[test]
    fn the_best_driver_is_chosen_unless_one_is_named() {
        assert_eq!(with_driver(Driver::Auto, anywhere).unwrap(), DriverKind::IoUring);
        assert_eq!(with_driver(Driver::IoUring, anywhere).unwrap(), DriverKind::IoUring);
        assert_eq!(with_driver(Driver::Epoll, anywhere).unwrap(), DriverKind::Epoll);
    }

    #[test]
    fn where_io_uring_is_forbidden_there_is_epoll_unless_io_uring_is_named() {
        assert_eq!(with_driver(Driver::Auto, forbidden).unwrap(), DriverKind::Epoll);
        assert_eq!(with_driver(Driver::Epoll, forbidden).unwrap(), DriverKind::Epoll);
        let error = with_driver(Driver::IoUring, forbidden).unwrap_err();
        assert_eq!(error.exit(), Exit::Machine);
        let text = error.to_string();
        assert!(text.contains("seccomp") && text.contains("--driver auto"), "{text}");
    }
}
