//! What a child is given to do: on its stdin, a line that says how, then the component.

use std::{
    fs::File,
    io::{self, BufRead, Seek, SeekFrom, Write},
    os::fd::OwnedFd,
};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::sandbox::engine::Codegen;

/// The job as a file in memory that nobody can change, at its start.
pub(super) fn sealed(component: &[u8], codegen: &Codegen) -> io::Result<OwnedFd> {
    let mut file: File = memfd_create("component", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?.into();
    serde_json::to_writer(&file, codegen)?;
    file.write_all(b"\n")?;
    file.write_all(component)?;
    file.seek(SeekFrom::Start(0))?;
    fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(file.into())
}

/// The same read again.
pub(super) fn read(mut from: impl BufRead) -> io::Result<(Codegen, Vec<u8>)> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    let codegen = serde_json::from_slice(&line)?;
    let mut component = Vec::new();
    from.read_to_end(&mut component)?;
    Ok((codegen, component))
}
