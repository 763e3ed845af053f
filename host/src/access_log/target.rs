//! Where the lines go: among the host's messages, or into a file that can be moved away and opened anew.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
};
use tracing::warn;

use super::Line;
use crate::{
    config::file::LogFormat,
    messages::{Messages, PATIENCE},
    output::{Output, QUEUE_BYTES_MAX},
};

/// A target of all tenants.
pub struct Target {
    format: LogFormat,
    kind: Kind,
}

enum Kind {
    Messages(Messages),
    File { path: PathBuf, file: Current, output: Arc<Output> },
}

impl Target {
    /// To stderr, as the log is.
    pub fn messages(messages: &Messages, format: LogFormat) -> Self {
        Self { format, kind: Kind::Messages(messages.clone()) }
    }

    /// To the end of a file, which is made if there is none. A thread of its own writes it.
    pub fn file(path: &Path, format: LogFormat) -> io::Result<Self> {
        let file = Current::new(open(path)?);
        let writer = Lines { file: file.clone(), lost: 0 };
        let output = Output::start("access-log", writer)?;
        Ok(Self { format, kind: Kind::File { path: path.to_owned(), file, output } })
    }

    /// Opens the file anew, by its path: another program may have moved the one there was. If that fails, the old one
    /// is written on.
    pub fn reopen(&self) -> io::Result<()> {
        if let Kind::File { path, file, .. } = &self.kind {
            file.set(open(path)?);
        }
        Ok(())
    }

    /// Waits a moment until all is written: the host ends.
    pub fn finish(&self) {
        if let Kind::File { output, .. } = &self.kind {
            output.flush(Some(Instant::now() + PATIENCE));
        }
    }

    /// Whether there is room for it.
    pub(super) fn offer(&self, line: &Line<'_>) -> bool {
        let line = line.write(self.format).into_bytes();
        match &self.kind {
            Kind::Messages(messages) => messages.log(line),
            Kind::File { output, .. } => output.offer(line.into(), QUEUE_BYTES_MAX),
        }
    }
}

/// Others than who runs the host, and their group, have no business with who connects.
fn open(path: &Path) -> io::Result<File> {
    // A pipe would hold up whoever opens it until it has a reader.
    let nonblock = OFlags::NONBLOCK.bits() as i32;
    let opened = OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(nonblock).open(path);
    let file = opened.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::NXIO) => {
            io::Error::other("it is a pipe that nobody reads: start its reader first, or name a file")
        }
        _ => error,
    })?;
    // The thread that writes may wait.
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

/// The file of now.
#[derive(Clone)]
struct Current(Arc<Mutex<Arc<File>>>);

impl Current {
    fn new(file: File) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(file))))
    }

    fn get(&self) -> Arc<File> {
        self.lock().clone()
    }

    fn set(&self, file: File) {
        *self.lock() = Arc::new(file);
    }

    fn lock(&self) -> MutexGuard<'_, Arc<File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes whole lines. A full disk is a loss of lines, not the end of the log.
struct Lines {
    file: Current,
    /// Since the last one that could be written.
    lost: usize,
}

impl Write for Lines {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        // Not under the lock: a disk may take its time.
        match self.file.get().as_ref().write_all(lines) {
            Ok(()) if self.lost == 0 => {}
            Ok(()) => {
                warn!("the access log is written again: {} lines are lost", self.lost);
                self.lost = 0;
            }
            Err(error) => {
                if self.lost == 0 {
                    warn!("the access log cannot be written: {error}");
                }
                self.lost += lines.iter().filter(|byte| **byte == b'\n').count();
            }
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
