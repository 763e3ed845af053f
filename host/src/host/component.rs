//! The component's file.

use std::{fs, io::Read as _, path::Path};

use crate::exit::StartError;

/// The component's bytes.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, StartError> {
    let unreadable = |error| StartError::Read { path: path.into(), error };
    let about = fs::metadata(path).map_err(unreadable)?;
    // A pipe could keep us waiting for ever, a device never end.
    if !about.is_file() {
        return Err(unreadable(std::io::Error::other("it is not a file")));
    }
    if about.len() > COMPONENT_BYTES_MAX {
        let error = format!("it has {} bytes, and a component may have {COMPONENT_BYTES_MAX}", about.len());
        return Err(unreadable(std::io::Error::other(error)));
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(COMPONENT_BYTES_MAX).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// Bytes of a component: a debug build of a large guest has some ten million.
const COMPONENT_BYTES_MAX: u64 = 64 << 20;
