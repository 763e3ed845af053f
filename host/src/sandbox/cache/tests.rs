//! Damage, strangers and races.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    process,
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::*;

/// A path for a cache's folder, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let unique = format!("conet-cache-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Scratch(std::env::temp_dir().join(unique))
    }

    fn open(&self) -> Cache {
        Cache::open(&self.0).unwrap()
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.0.join(name)).unwrap().permissions().mode() & 0o777
    }

    fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.0.join(name), Permissions::from_mode(mode)).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes a file as if it was last written this long ago.
fn age(path: &Path, seconds: u64) {
    let file = fs::File::open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
}

fn key(component: &str) -> CacheKey {
    CacheKey::new(component.as_bytes(), "1", "engine")
}

#[test]
fn what_was_stored_is_loaded_also_by_the_next_process() {
    let scratch = Scratch::new();
    scratch.open().store(&key("a"), b"code");
    let cache = scratch.open();
    assert_eq!(cache.load(&key("a")).as_deref(), Some(&b"code"[..]));
    assert_eq!(cache.load(&key("b")), None);
    cache.store(&key("a"), b"");
    assert_eq!(cache.load(&key("a")).as_deref(), Some(&b""[..]));
}

#[test]
fn folder_and_files_are_private() {
    let scratch = Scratch::new();
    scratch.open().store(&key("a"), b"code");
    assert_eq!(scratch.mode(""), 0o700);
    assert_eq!(scratch.mode("key"), 0o600);
    assert_eq!(scratch.mode(&key("a").0), 0o600);
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 2, "no temporary file is left");
}

#[test]
fn everything_compiled_code_depends_on_makes_another_key() {
    let keys = [
        CacheKey::new(b"ab", "c", "d"),
        CacheKey::new(b"a", "bc", "d"),
        CacheKey::new(b"ab", "", "cd"),
        CacheKey::new(b"ab", "cd", ""),
        CacheKey::new(b"", "ab", "cd"),
    ];
    for (i, one) in keys.iter().enumerate() {
        assert_eq!(one.0.len(), 64);
        assert!(keys[i + 1..].iter().all(|other| other != one));
    }
}

/// Every single flipped bit, and every cut, is noticed; the entry is removed and can be stored again.
#[test]
fn a_damaged_entry_is_never_loaded() {
    let scratch = Scratch::new();
    let cache = scratch.open();
    let path = scratch.0.join(&key("a").0);
    cache.store(&key("a"), b"compiled code");
    let whole = fs::read(&path).unwrap();

    let flips = (0..whole.len() * 8).map(|bit| {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    });
    let cuts = (0..whole.len()).map(|len| whole[..len].to_vec());
    let longer = [whole.clone(), vec![0]].concat();
    for damaged in flips.chain(cuts).chain([longer]) {
        fs::write(&path, &damaged).unwrap();
        assert_eq!(cache.load(&key("a")), None);
        assert!(!path.exists());
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(cache.load(&key("a")).as_deref(), Some(&b"compiled code"[..]));
}

#[test]
fn an_entry_under_another_name_is_not_loaded() {
    let scratch = Scratch::new();
    let cache = scratch.open();
    cache.store(&key("a"), b"code");
    fs::copy(scratch.0.join(&key("a").0), scratch.0.join(&key("b").0)).unwrap();
    assert_eq!(cache.load(&key("b")), None);
    assert!(cache.load(&key("a")).is_some());
}

#[test]
fn an_entry_of_another_cache_is_not_loaded() {
    let (ours, theirs) = (Scratch::new(), Scratch::new());
    let cache = ours.open();
    theirs.open().store(&key("a"), b"code");
    fs::copy(theirs.0.join(&key("a").0), ours.0.join(&key("a").0)).unwrap();
    assert_eq!(cache.load(&key("a")), None);
}

#[test]
fn a_folder_or_key_open_to_others_is_refused() {
    let scratch = Scratch::new();
    scratch.open().store(&key("a"), b"code");
    for mode in [0o755, 0o710, 0o701, 0o770, 0o702] {
        scratch.set_mode("", mode);
        let error = Cache::open(&scratch.0).err().unwrap().to_string();
        assert!(error.contains("chmod 700") && error.contains(&format!("{mode:o}")), "{error}");
    }
    scratch.set_mode("", 0o700);
    scratch.set_mode("key", 0o644);
    assert!(matches!(Cache::open(&scratch.0), Err(CacheError::Secret { .. })));
    scratch.set_mode("key", 0o600);
    assert!(scratch.open().load(&key("a")).is_some());
}

/// Only root can give a folder away, so elsewhere a folder that root owns stands in.
#[test]
fn a_folder_of_another_user_is_refused() {
    let scratch = Scratch::new();
    let path = if rustix::process::geteuid().is_root() {
        fs::create_dir(&scratch.0).unwrap();
        scratch.set_mode("", 0o700);
        std::os::unix::fs::chown(&scratch.0, Some(12345), None).unwrap();
        scratch.0.as_path()
    } else {
        Path::new("/")
    };
    assert!(matches!(Cache::open(path), Err(CacheError::Owner { .. })));
}

#[test]
fn a_damaged_key_is_refused() {
    let scratch = Scratch::new();
    scratch.open();
    for damaged in [&b""[..], b"short", &[0; 33]] {
        fs::write(scratch.0.join("key"), damaged).unwrap();
        assert!(matches!(Cache::open(&scratch.0), Err(CacheError::Secret { .. })));
    }
}

#[test]
fn a_path_that_is_no_folder_is_refused() {
    assert!(matches!(Cache::open(Path::new("/dev/null/x")), Err(CacheError::Io { .. })));
    assert!(matches!(Cache::open(Path::new("/dev/null")), Err(CacheError::Io { .. })));
}

/// All openers race to make the key, then store under one name and several, reading all the while.
#[test]
fn concurrent_users_see_whole_entries_or_none() {
    let scratch = Scratch::new();
    let start = Barrier::new(8);
    let payload = |i: usize| vec![u8::try_from(i).unwrap(); 50_000 + i];
    thread::scope(|scope| {
        for i in 0..8 {
            let (scratch, start) = (&scratch, &start);
            scope.spawn(move || {
                start.wait();
                let cache = scratch.open();
                for _ in 0..50 {
                    cache.store(&key("shared"), &payload(i));
                    let loaded = cache.load(&key("shared")).expect("replaced, never missing or torn");
                    assert_eq!(loaded, payload(usize::from(loaded[0])));
                    cache.store(&key(&i.to_string()), &payload(i));
                    assert_eq!(cache.load(&key(&i.to_string())), Some(payload(i)));
                }
            });
        }
    });
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 10, "the key, the shared entry and one each");
}

#[test]
fn the_least_recently_used_entries_make_room() {
    let scratch = Scratch::new();
    let each = 1_000;
    let cache = Cache::open_bounded(&scratch.0, 3 * each).unwrap();
    let payload = vec![7; usize::try_from(each).unwrap() - HEADER_BYTES];
    for (name, seconds) in [("a", 300), ("b", 200), ("c", 100)] {
        cache.store(&key(name), &payload);
        age(&scratch.0.join(&key(name).0), seconds);
    }
    assert!(cache.load(&key("a")).is_some(), "makes it the most recently used");
    cache.store(&key("d"), &payload);
    assert_eq!(cache.load(&key("b")), None);
    for name in ["a", "c", "d"] {
        assert!(cache.load(&key(name)).is_some(), "{name}");
    }
    cache.store(&key("huge"), &vec![0; 4_000]);
    assert_eq!(cache.load(&key("huge")), None);
    assert!(cache.load(&key("a")).is_some(), "what cannot fit evicts nothing");
}

#[test]
fn what_dead_writers_left_is_removed() {
    let scratch = Scratch::new();
    let cache = scratch.open();
    let [old, new] = [(); 2].map(|()| scratch.0.join(temporary_name().unwrap()));
    for path in [&old, &new] {
        fs::write(path, b"half").unwrap();
    }
    age(&old, 2 * 60 * 60);
    cache.store(&key("a"), b"code");
    assert!(!old.exists() && new.exists());
}

/// The folder may hold more than the cache: whatever its size and age, it is neither removed nor counted.
#[test]
fn files_of_others_stay() {
    let scratch = Scratch::new();
    let cache = Cache::open_bounded(&scratch.0, 1_000).unwrap();
    let digest = key("a").0;
    let names = [
        "thesis.tex".to_owned(),
        "thesis.tmp".to_owned(),
        "12345.tmp".to_owned(),
        "0123456789abcdeg.tmp".to_owned(),
        "0123456789abcdef".to_owned(),
        digest.to_uppercase(),
        format!("{digest}.wasm"),
        digest[1..].to_owned(),
    ];
    for name in &names {
        fs::write(scratch.0.join(name), [0; 2_000]).unwrap();
        age(&scratch.0.join(name), 2 * 60 * 60);
    }
    cache.store(&key("a"), b"code");
    cache.store(&key("b"), b"code");
    for name in &names {
        assert!(scratch.0.join(name).exists(), "{name}");
    }
    assert!(cache.load(&key("a")).is_some() && cache.load(&key("b")).is_some());
}

#[test]
fn the_default_place() {
    let at = |xdg: Option<&str>, home: Option<&str>| place(xdg.map(OsString::from), home.map(OsString::from));
    assert_eq!(at(Some("/x"), Some("/h")), Some("/x/conet".into()));
    assert_eq!(at(None, Some("/h")), Some("/h/.cache/conet".into()));
    assert_eq!(at(Some("relative"), Some("/h")), Some("/h/.cache/conet".into()));
    assert_eq!(at(Some(""), None), None);
    assert_eq!(at(None, None), None);
}
