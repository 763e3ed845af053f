//! The admin's Unix socket: one for this user alone, at a path that nobody else serves.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, lchown},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, fchmod},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with},
};

/// A Unix socket that listens. Dropping it removes it.
#[derive(Debug)]
pub struct AdminSocket {
    path: PathBuf,
    /// The file that was made, which another process may have replaced.
    file: (u64, u64),
    listener: UnixListener,
}

/// Why it cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers there.
    #[error("another process serves it: end that one, or give another path with `admin`")]
    Live,
    /// There is something, and it is no socket.
    #[error("there is something else of that name: remove it, or give another path with `admin`")]
    Other,
    /// The system's word.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl AdminSocket {
    /// Listens at the path. What a process has left there that ended without removing it is replaced.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        remove_stale(path)?;
        Self::bind_new(path)
    }

    /// Listens at the path in place of another process, which does so and leaves: there is no moment at which nobody does.
    pub fn take_over(path: &Path) -> Result<Self, SocketError> {
        // A short name: the system has little room for one.
        let aside = path.with_file_name(format!(".{}", std::process::id()));
        let mut socket = Self::bind_new(&aside)?;
        fs::rename(&aside, path)?;
        path.clone_into(&mut socket.path);
        Ok(socket)
    }

    fn bind_new(path: &Path) -> Result<Self, SocketError> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(io::Error::from)?;
        // Before it has a name, so that there is no moment at which others may connect.
        fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(io::Error::from)?;
        let address = SocketAddrUnix::new(path).map_err(io::Error::from)?;
        bind(&socket, &address).map_err(io::Error::from)?;
        // From here on dropping it removes what was bound.
        let socket = Self { path: path.to_owned(), file: file(path)?, listener: socket.into() };
        listen(&socket.listener, BACKLOG).map_err(io::Error::from)?;
        Ok(socket)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it this user's and this group's.
    pub fn hand_to(&self, (uid, gid): (u32, u32)) -> Result<(), SocketError> {
        Ok(lchown(&self.path, Some(uid), Some(gid))?)
    }

    pub(super) fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // It listens still, so nobody replaces it but who takes over from this one. If it is gone, it is gone.
        if file(&self.path).is_ok_and(|file| file == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Names a file, whatever its path comes to lead to.
fn file(path: &Path) -> io::Result<(u64, u64)> {
    let about = fs::symlink_metadata(path)?;
    Ok((about.dev(), about.ino()))
}

fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let kind = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?.file_type(),
    };
    if !kind.is_socket() {
        return Err(SocketError::Other);
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::Live),
        // Nobody listens.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(fs::remove_file(path)?),
        Err(error) => Err(error.into()),
    }
}

/// Connections that wait to be accepted.
const BACKLOG: i32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// A path in a folder of this test.
    fn path(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("conet-admin-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        folder.join("admin.sock")
    }

    fn clean(path: &Path) {
        fs::remove_dir_all(path.parent().expect("a folder")).expect("it is ours");
    }

    #[test]
    fn it_is_this_user_s_alone_and_goes_with_its_owner() {
        let path = path("mode");
        let socket = AdminSocket::bind(&path).expect("nothing is there");
        assert_eq!(fs::metadata(&path).expect("it is there").mode() & 0o777, 0o600);
        assert!(matches!(AdminSocket::bind(&path), Err(SocketError::Live)));
        assert!(path.exists(), "who is refused removes nothing");
        drop(socket);
        assert!(!path.exists());
        clean(&path);
    }

    #[test]
    fn what_a_dead_process_left_is_replaced_and_nothing_else() {
        let path = path("stale");
        drop(UnixListener::bind(&path).expect("nothing is there"));
        assert!(path.exists(), "std leaves it");
        drop(AdminSocket::bind(&path).expect("nobody listens there"));
        fs::write(&path, "precious").expect("a file");
        assert!(matches!(AdminSocket::bind(&path), Err(SocketError::Other)));
        assert_eq!(fs::read(&path).expect("a file"), b"precious");
        clean(&path);
    }

    #[test]
    fn who_takes_over_is_there_at_once_and_stays_when_the_other_goes() {
        let path = path("over");
        let old = AdminSocket::bind(&path).expect("nothing is there");
        let new = AdminSocket::take_over(&path).expect("the other one leaves");
        assert_eq!(fs::metadata(&path).expect("it is there").mode() & 0o777, 0o600);
        let entries = fs::read_dir(path.parent().expect("a folder")).expect("it is ours").count();
        assert_eq!(entries, 1, "nothing is left beside it");
        drop(old);
        assert!(path.exists(), "it is the other's");
        drop(UnixStream::connect(&path).expect("it listens"));
        drop(new);
        assert!(!path.exists());
        clean(&path);
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_an_error() {
        let long = PathBuf::from(format!("/tmp/{}", "x".repeat(200)));
        assert!(matches!(AdminSocket::bind(&long), Err(SocketError::System(_))));
    }
}
