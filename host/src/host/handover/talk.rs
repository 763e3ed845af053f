//! One end of a talk: whole messages, each with a descriptor or none.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, retry_on_intr},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType, recvmsg,
        sendmsg, shutdown, socketpair,
        sockopt::{Timeout, set_socket_timeout, socket_type},
    },
};
use serde::{Serialize, de::DeserializeOwned};

/// The end.
#[derive(Debug)]
pub(super) struct Talk(OwnedFd);

/// What has come.
pub(super) struct Received {
    pub(super) bytes: Vec<u8>,
    pub(super) descriptor: Option<OwnedFd>,
}

impl Talk {
    /// An end, and the other one.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self::over(ours)?, theirs))
    }

    /// Over a socket that keeps messages whole. An error if it is none.
    pub(super) fn over(socket: OwnedFd) -> io::Result<Self> {
        if socket_type(&socket)? != SocketType::SEQPACKET {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        set_socket_timeout(&socket, Timeout::Send, Some(SEND_MAX))?;
        Ok(Self(socket))
    }

    /// Says something. An error after ten seconds in which there was no room for it.
    pub(super) fn say(&self, message: &impl Serialize, with: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let text = serde_json::to_vec(message).map_err(io::Error::other)?;
        self.send(&text, with, SendFlags::empty())
    }

    /// The same, if there is room for it now.
    pub(super) fn mention(&self, message: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_vec(message).map_err(io::Error::other)?;
        self.send(&text, None, SendFlags::DONTWAIT)
    }

    /// Says a line of text.
    pub(super) fn say_text(&self, text: &str) -> io::Result<()> {
        self.send(text.as_bytes(), None, SendFlags::empty())
    }

    fn send(&self, bytes: &[u8], with: Option<BorrowedFd<'_>>, flags: SendFlags) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        let descriptors = with.map(|descriptor| [descriptor]);
        if let Some(descriptors) = &descriptors {
            assert!(beside.push(SendAncillaryMessage::ScmRights(descriptors)), "there is space for one");
        }
        let (bytes, flags) = ([IoSlice::new(bytes)], flags | SendFlags::NOSIGNAL);
        retry_on_intr(|| sendmsg(&self.0, &bytes, &mut beside, flags))?;
        Ok(())
    }

    /// The next message; none if the other end is closed. An error if none comes before the deadline, or it is not to be
    /// understood.
    pub(super) fn hear<T: DeserializeOwned>(
        &self,
        until: Option<Instant>,
    ) -> io::Result<Option<(T, Option<OwnedFd>)>> {
        let Some(Received { bytes, descriptor }) = self.receive(until)? else { return Ok(None) };
        let message = serde_json::from_slice(&bytes);
        let unknown = |_| {
            let text = String::from_utf8_lossy(&bytes);
            io::Error::other(format!("it says {:?}, which is not understood", text.trim_end()))
        };
        Ok(Some((message.map_err(unknown)?, descriptor)))
    }

    /// As `hear`, of anything.
    pub(super) fn receive(&self, until: Option<Instant>) -> io::Result<Option<Received>> {
        if !self.wait(until)? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut bytes = vec![0; MESSAGE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut bytes)];
        let mut receive =
            || retry_on_intr(|| recvmsg(&self.0, &mut into, &mut beside, RecvFlags::CMSG_CLOEXEC));
        let received = match receive() {
            // It went with something unread, which is told first, and once: what it said before that is still there.
            Err(Errno::CONNRESET) => receive(),
            received => received,
        }?;
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::other("no descriptor is left for what is handed on: see `ulimit -n`"));
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(io::Error::other("a message is too long"));
        }
        let mut descriptors = beside.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let descriptor = descriptors.find_map(|mut descriptors| descriptors.next());
        bytes.truncate(received.bytes);
        Ok((!bytes.is_empty()).then_some(Received { bytes, descriptor }))
    }

    /// Waits until something has come, or the end; whether it has.
    fn wait(&self, until: Option<Instant>) -> io::Result<bool> {
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let timeout = left.map(|left| Timespec::try_from(left).expect("it is no more than minutes"));
            let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut fds, timeout.as_ref()) {
                Ok(0) => return Ok(false),
                Err(Errno::INTR) => {}
                polled => return polled.map(|_| true).map_err(io::Error::from),
            }
        }
    }

    /// Ends it, on whichever thread it is waited for something.
    pub(super) fn hang_up(&self) {
        // The other end may have been closed.
        let _ = shutdown(self.0.as_fd(), Shutdown::Both);
    }
}

/// The longest that either says: why a file is refused, line by line.
pub(super) const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// For the other end to make room: it reads at once, or has stopped.
const SEND_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Read, thread};

    #[test]
    fn messages_stay_whole_and_bring_descriptors() {
        let (ours, theirs) = Talk::pair().expect("a pair");
        let theirs = Talk::over(theirs).expect("it is such a socket");
        let (mut reader, writer) = io::pipe().expect("a pipe");
        ours.say(&"one", None).expect("it listens");
        ours.say(&"two", Some(writer.as_fd())).expect("it listens");
        drop((writer, ours));
        let (one, none): (String, _) = theirs.hear(None).expect("it is text").expect("it is there");
        assert!(one == "one" && none.is_none());
        let (two, pipe): (String, _) = theirs.hear(None).expect("it is text").expect("it is there");
        assert!(two == "two" && pipe.is_some());
        assert!(theirs.hear::<String>(None).expect("it is the end").is_none());
        drop(pipe);
        assert_eq!(reader.read(&mut [0]).expect("it is a pipe"), 0, "nobody else has the writer");
    }

    #[test]
    fn the_last_words_of_who_has_not_heard_everything_come_still() {
        let (ours, theirs) = Talk::pair().expect("a pair");
        let theirs = Talk::over(theirs).expect("it is such a socket");
        ours.say(&"never read", None).expect("there is room");
        theirs.say(&"why", None).expect("there is room");
        drop(theirs);
        let (why, _): (String, _) = ours.hear(None).expect("it is text").expect("it is there");
        assert_eq!(why, "why");
        assert!(ours.hear::<String>(None).expect("it is the end").is_none());
    }

    #[test]
    fn who_waits_is_told_of_the_end_and_of_the_deadline() {
        let (ours, theirs) = Talk::pair().expect("a pair");
        let late = ours.hear::<String>(Some(Instant::now())).expect_err("nothing is there");
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        thread::scope(|scope| {
            let waits = scope.spawn(|| ours.hear::<String>(None));
            ours.hang_up();
            assert!(waits.join().expect("no panic").expect("it is the end").is_none());
        });
        drop(theirs);
    }

    #[test]
    fn other_sockets_are_none() {
        let (plain, _other) = std::os::unix::net::UnixStream::pair().expect("a pair");
        Talk::over(plain.into()).expect_err("it is a stream");
    }
}
