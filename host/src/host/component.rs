//! The component's file.

use std::{fs, io::Read as _, path::Path};

use crate::exit::StartError;

/// The component's bytes, of which there may be so many.
pub(super) fn read(path: &Path, bytes_max: usize) -> Result<Vec<u8>, StartError> {
    let unreadable = |error| StartError::Read { path: path.into(), error };
    let about = fs::metadata(path).map_err(unreadable)?;
    // A pipe could keep us waiting for ever, a device never end.
    if !about.is_file() {
        return Err(unreadable(std::io::Error::other("it is not a file")));
    }
    let bytes_max = bytes_max as u64;
    let too_large = |bytes| StartError::TooLarge { path: path.into(), bytes, bytes_max };
    if about.len() > bytes_max {
        return Err(too_large(about.len()));
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    // It may be growing.
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > bytes_max { Err(too_large(bytes.len() as u64)) } else { Ok(bytes) }
}
