//! Compiled code kept on disk, so that a second start is fast.
//!
//! Loading compiled code is running it, so the folder is trusted with the process's life: it belongs to this user alone,
//! and every entry carries a MAC over its name and bytes with a key that only this user can read. What fails any check
//! is compiled again. The cache never fails a run: without it, everything is only slower.

use std::{
    ffi::OsString,
    fs::DirBuilder,
    io::{self, Read, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use cap_std::{
    ambient_authority,
    fs::{Dir, File, MetadataExt, OpenOptions, OpenOptionsExt},
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::metrics::HostCounters;

/// A folder of compiled components. Cheap to use from several processes at once.
pub struct Cache {
    dir: Dir,
    path: PathBuf,
    secret: [u8; SECRET_BYTES],
    bytes_max: u64,
    counters: Arc<HostCounters>,
}

/// What compiled code depends on; as a name, 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheKey(String);

impl CacheKey {
    /// The key of `component` compiled by these `versions` (conet's and wasmtime's) with an engine configured as `engine` says.
    pub fn new(component: &[u8], versions: &str, engine: &str) -> CacheKey {
        let mut hash = Sha256::new();
        for part in [component, versions.as_bytes(), engine.as_bytes()] {
            // With lengths, so that moving bytes from one part to the next makes another key.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        CacheKey(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl Cache {
    /// $XDG_CACHE_HOME/conet or ~/.cache/conet; none if neither is known.
    pub fn default_path() -> Option<PathBuf> {
        place(std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME"))
    }

    /// Opens the folder, made if need be, for at most 1 GiB of entries.
    pub fn open(path: &Path) -> Result<Cache, CacheError> {
        Cache::open_bounded(path, BYTES_MAX)
    }

    /// Opens the folder for at most `bytes_max` bytes of entries.
    pub fn open_bounded(path: &Path, bytes_max: u64) -> Result<Cache, CacheError> {
        let failed = |source| CacheError::Io { path: path.into(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let dir = Dir::open_ambient_dir(path, ambient_authority()).map_err(failed)?;
        // Of the folder that is open now, whatever the path leads to later.
        let metadata = dir.dir_metadata().map_err(failed)?;
        let own = rustix::process::geteuid().as_raw();
        if metadata.uid() != own {
            return Err(CacheError::Owner { path: path.into(), owner: metadata.uid(), own });
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(CacheError::Shared { path: path.into(), mode: metadata.mode() & 0o777 });
        }
        let secret = open_secret(&dir, path, own)?;
        Ok(Cache { dir, path: path.into(), secret, bytes_max, counters: Arc::default() })
    }

    /// The same, counting there.
    pub fn counted(self, counters: Arc<HostCounters>) -> Cache {
        Cache { counters, ..self }
    }

    /// The entry's bytes, exactly as stored. An entry that fails its check is removed.
    pub fn load(&self, key: &CacheKey) -> Option<Vec<u8>> {
        let file = match self.dir.open(&key.0) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return self.reject(key, &error),
        };
        match self.read_checked(key, &file) {
            Ok(payload) => {
                // What is used stays; eviction goes by this time.
                let _ = file.into_std().set_modified(SystemTime::now());
                Some(payload)
            }
            Err(error) => self.reject(key, &error),
        }
    }

    /// Keeps `payload` for the next `load`. Failing is only logged.
    pub fn store(&self, key: &CacheKey, payload: &[u8]) {
        let bytes = (HEADER_BYTES + payload.len()) as u64;
        if bytes > self.bytes_max {
            tracing::debug!(bytes, max = self.bytes_max, "compiled code is too large to cache");
            return;
        }
        if let Err(error) = self.write(key, payload).and_then(|()| self.evict()) {
            tracing::warn!(path = %self.path.display(), %error, "cannot cache compiled code");
        }
    }

    fn read_checked(&self, key: &CacheKey, mut file: &File) -> io::Result<Vec<u8>> {
        let mut header = [0; HEADER_BYTES];
        file.read_exact(&mut header)?;
        let (magic, tag) = header.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(io::Error::other("it is not an entry of this version"));
        }
        let bytes = file.metadata()?.len();
        if bytes > self.bytes_max {
            return Err(io::Error::other("it is larger than the cache may be"));
        }
        let mut payload = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
        file.take(self.bytes_max).read_to_end(&mut payload)?;
        let checked = self.mac(key, &payload).verify_slice(tag);
        checked.map_err(|_| io::Error::other("its MAC does not hold"))?;
        Ok(payload)
    }

    fn reject(&self, key: &CacheKey, error: &io::Error) -> Option<Vec<u8>> {
        let (path, name) = (self.path.display(), &key.0);
        tracing::warn!(%path, name, %error, "an entry of the compilation cache is damaged: removed, compiling again");
        self.counters.cache_entries_damaged.increment();
        let _ = self.dir.remove_file(name);
        None
    }

    fn write(&self, key: &CacheKey, payload: &[u8]) -> io::Result<()> {
        let tag = self.mac(key, payload).finalize().into_bytes();
        let temporary = temporary_name()?;
        let written = create_private(&self.dir, &temporary).and_then(|mut file| {
            file.write_all(MAGIC)?;
            file.write_all(&tag)?;
            file.write_all(payload)?;
            self.dir.rename(&temporary, &self.dir, &key.0)
        });
        if written.is_err() {
            let _ = self.dir.remove_file(&temporary);
        }
        written
    }

    /// Removes the oldest entries until the rest fits, and what writers that died have left. Files that are not named
    /// as the cache names its own are somebody else's.
    fn evict(&self) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in self.dir.entries()? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let temporary = is_temporary_name(&name);
            if !temporary && !is_entry_name(&name) {
                continue;
            }
            // Another process may have removed it meanwhile.
            let Ok(metadata) = entry.metadata() else { continue };
            if !metadata.is_file() {
                continue;
            }
            let modified = metadata.modified().map_or(SystemTime::UNIX_EPOCH, |time| time.into_std());
            if temporary && modified.elapsed().is_ok_and(|age| age > TEMPORARY_AGE_MAX) {
                let _ = self.dir.remove_file(&name);
            } else if !temporary {
                entries.push((modified, metadata.len(), name));
            }
        }
        entries.sort();
        let mut bytes: u64 = entries.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, size, name) in entries {
            if bytes <= self.bytes_max {
                break;
            }
            let _ = self.dir.remove_file(&name);
            bytes -= size;
        }
        Ok(())
    }

    fn mac(&self, key: &CacheKey, payload: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes a key of any length");
        mac.update(MAGIC);
        // Of one length always, so that where it ends and the payload starts is never in doubt.
        mac.update(key.0.as_bytes());
        mac.update(payload);
        mac
    }
}

/// Why there is no cache. Each says how to have one.
#[derive(Debug, Error)]
pub enum CacheError {
    /// The system refuses.
    #[error("cannot use {} for the compilation cache: {source}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another user could put code there.
    #[error("{} is owned by uid {owner}, not by {own}: compiled code is not loaded from there; set XDG_CACHE_HOME", path.display())]
    Owner {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// This process's user.
        own: u32,
    },
    /// Others may read or write there.
    #[error("{} is open to other users (mode {mode:03o}): run `chmod 700` on it, or give another with --cache", path.display())]
    Shared {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The secret cannot be trusted.
    #[error(
        "the file `{SECRET_NAME}` in {} is not this cache's, is damaged, or is open to other users: remove that file, \
         or give another folder with --cache", path.display()
    )]
    Secret {
        /// The folder.
        path: PathBuf,
    },
}

/// Reads the folder's secret, making it first if there is none.
fn open_secret(dir: &Dir, path: &Path, own: u32) -> Result<[u8; SECRET_BYTES], CacheError> {
    let failed = |source| CacheError::Io { path: path.into(), source };
    let mut file = match dir.open(SECRET_NAME) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_secret(dir).map_err(failed)?;
            dir.open(SECRET_NAME).map_err(failed)?
        }
        opened => opened.map_err(failed)?,
    };
    let metadata = file.metadata().map_err(failed)?;
    let private = metadata.is_file() && metadata.uid() == own && metadata.mode() & 0o077 == 0;
    let mut secret = [0; SECRET_BYTES];
    if !private || metadata.len() != SECRET_BYTES as u64 || file.read_exact(&mut secret).is_err() {
        return Err(CacheError::Secret { path: path.into() });
    }
    Ok(secret)
}

/// Of several processes that make it at once, the first to link wins and all read that one.
fn make_secret(dir: &Dir) -> io::Result<()> {
    let secret: [u8; SECRET_BYTES] = random()?;
    let temporary = temporary_name()?;
    let made = create_private(dir, &temporary).and_then(|mut file| {
        file.write_all(&secret)?;
        // It must be whole before it has its name, also after a power cut.
        file.sync_all()?;
        match dir.hard_link(&temporary, dir, SECRET_NAME) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        }
    });
    let _ = dir.remove_file(&temporary);
    made
}

fn create_private(dir: &Dir, name: &str) -> io::Result<File> {
    dir.open_with(name, OpenOptions::new().write(true).create_new(true).mode(0o600))
}

fn temporary_name() -> io::Result<String> {
    let unique = u64::from_le_bytes(random()?);
    Ok(format!("{unique:0TEMPORARY_DIGITS$x}{TEMPORARY_SUFFIX}"))
}

fn is_temporary_name(name: &str) -> bool {
    name.strip_suffix(TEMPORARY_SUFFIX).is_some_and(|unique| is_hex(unique, TEMPORARY_DIGITS))
}

/// Is it what a `CacheKey` looks like?
fn is_entry_name(name: &str) -> bool {
    is_hex(name, KEY_DIGITS)
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}

fn place(xdg_cache_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    // A relative path here is to be ignored, says the XDG specification.
    let absolute = |path: OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let base = xdg_cache_home.and_then(absolute).or_else(|| Some(home.and_then(absolute)?.join(".cache")))?;
    Some(base.join("conet"))
}

/// Names the layout: another layout, another magic.
const MAGIC: &[u8; 8] = b"conetAO1";

/// Magic and MAC.
const HEADER_BYTES: usize = MAGIC.len() + 32;

const SECRET_NAME: &str = "key";
const SECRET_BYTES: usize = 32;
const BYTES_MAX: u64 = 1 << 30;
const TEMPORARY_SUFFIX: &str = ".tmp";
const TEMPORARY_DIGITS: usize = 16;
/// SHA-256 in hexadecimal.
const KEY_DIGITS: usize = 64;

/// No writer takes this long.
const TEMPORARY_AGE_MAX: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests;
