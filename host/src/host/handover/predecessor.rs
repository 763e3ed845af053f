//! The version before, as the new one sees it.

use std::{
    env,
    fs::File,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::{
    Handed, Key,
    message::{FromNew, FromOld, GREETING, HeldBack},
    talk::{MESSAGE_BYTES_MAX, Talk},
};
use crate::wall::launcher::SUCCEEDS;

/// It.
#[derive(Debug, Clone)]
pub struct Predecessor {
    talk: Arc<Talk>,
    /// Its number.
    pub(in super::super) process: String,
    handed: Arc<Mutex<Handed>>,
    /// What it has rolled back.
    pub(in super::super) held: Vec<HeldBack>,
    /// Where its admin's Unix socket is.
    admin: Option<String>,
}

/// Why nothing is taken over.
#[derive(Debug, thiserror::Error)]
pub enum MeetError {
    /// It has not said what was to come.
    #[error("the host that this was to take over from: {0}")]
    Talk(#[from] io::Error),
    /// It is of another time.
    #[error(
        "this version takes over by {GREETING:?}, and the one before it by {0:?}: drain that one, and start this one"
    )]
    Protocol(String),
    /// It has ended, or this one is not wanted any more.
    #[error("the host that this was to take over from has ended, or given it up")]
    Gone,
}

/// What it comes to say at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Word {
    /// Its place is this one's.
    Yours,
    /// This one is to end as well.
    Drain,
}

impl Predecessor {
    /// The one that has had this process started, with all that it hands on. None if nobody has.
    pub fn meet() -> Result<Option<Self>, MeetError> {
        let Some(process) = env::var_os(SUCCEEDS) else { return Ok(None) };
        let stdin = rustix::stdio::stdin().try_clone_to_owned()?;
        let Ok(talk) = Talk::over(stdin) else {
            // Somebody has left the variable there.
            return Ok(None);
        };
        // Nothing that this process starts has it, and its end is the end.
        rustix::stdio::dup2_stdin(File::open("/dev/null")?).map_err(io::Error::from)?;
        let until = Some(Instant::now() + GREETED_MAX);
        let greeting = talk.receive(until)?.ok_or(MeetError::Gone)?.bytes;
        if greeting != GREETING.as_bytes() {
            let error = MeetError::Protocol(String::from_utf8_lossy(&greeting).into_owned());
            talk.say_text(&error.to_string())?;
            return Err(error);
        }
        talk.say_text(GREETING)?;
        let (mut handed, mut held) = (Handed::default(), Vec::new());
        let admin = loop {
            match talk.hear(until)?.ok_or(MeetError::Gone)? {
                (FromOld::Socket(key), Some(socket)) => {
                    if let Err(error) = handed.add(key, socket) {
                        // It may have gone.
                        let _ = talk.say(&FromNew::Failed(error.to_string()), None);
                        return Err(error.into());
                    }
                }
                (FromOld::Held(version), None) => held.push(version),
                (FromOld::Whole { admin }, None) => break admin,
                (other, _) => return Err(io::Error::other(format!("it says {other:?}")).into()),
            }
        };
        let process = process.to_string_lossy().into_owned();
        let (talk, handed) = (Arc::new(talk), Arc::new(Mutex::new(handed)));
        Ok(Some(Self { talk, process, handed, held, admin }))
    }

    /// What it has handed on, once.
    pub(in super::super) fn handed(&self) -> Handed {
        std::mem::take(&mut self.handed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether its admin's Unix socket is at this path.
    pub(in super::super) fn has_admin_at(&self, path: &Path) -> bool {
        self.admin.as_deref() == path.to_str()
    }

    /// Tells it why it has to serve on.
    pub fn failed(&self, why: &str) {
        let room = why.floor_char_boundary(MESSAGE_BYTES_MAX / REASON_PART);
        // It may have gone.
        let _ = self.talk.say(&FromNew::Failed(why[..room].to_owned()), None);
    }

    /// Tells it that these tenants could be served from now on, and what of theirs has been left, and waits until they are to be.
    pub(in super::super) fn ready<'a>(
        &self,
        tenants: impl Iterator<Item = &'a str>,
        left: Vec<Key>,
    ) -> Result<(), MeetError> {
        for tenant in tenants {
            self.talk.say(&FromNew::Serves(tenant.to_owned()), None)?;
        }
        for key in left {
            self.talk.say(&FromNew::Left(key), None)?;
        }
        self.talk.say(&FromNew::Ready, None)?;
        match self.talk.hear(None)? {
            Some((FromOld::Go, _)) => Ok(()),
            Some((FromOld::Drain, _)) | None => Err(MeetError::Gone),
            Some((other, _)) => Err(io::Error::other(format!("it says {other:?}")).into()),
        }
    }

    /// Tells it that this one accepts. What it says from then on is for `told`, on a thread of its own; if it ends without a
    /// word, its place is this one's, too. After an error it has been told nothing.
    pub(in super::super) fn serving(&self, told: impl Fn(Word) + Send + 'static) -> io::Result<()> {
        let talk = self.talk.clone();
        thread::Builder::new().name("predecessor".into()).spawn(move || {
            // If it has gone since it said Go, nobody serves but this one.
            let _ = talk.say(&FromNew::Serving, None);
            let mut its_place = false;
            loop {
                match talk.hear(None) {
                    Ok(Some((FromOld::Look, _))) => conet_rt::net::look_again(),
                    Ok(Some((FromOld::Yours, _))) if !its_place => {
                        its_place = true;
                        told(Word::Yours);
                    }
                    Ok(Some((FromOld::Drain, _))) => told(Word::Drain),
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => break,
                }
            }
            if !its_place {
                told(Word::Yours);
            }
            // Perhaps it was told of somebody last, and has not passed that on.
            conet_rt::net::look_again();
        })?;
        Ok(())
    }

    /// Tells it that this one has the admin's place.
    pub(in super::super) fn taken(&self) {
        // It may have gone.
        let _ = self.talk.say(&FromNew::Taken, None);
    }
}

/// For its first words, and all that it hands on.
const GREETED_MAX: Duration = Duration::from_secs(20);
/// Of a message, so that a reason has room there, whatever becomes of its characters.
const REASON_PART: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    /// One whose other end says what it says.
    fn predecessor() -> (Talk, Predecessor) {
        let (old, new) = Talk::pair().expect("a pair");
        let talk = Arc::new(Talk::over(new).expect("it is such a socket"));
        let (process, handed, held) = ("1".to_owned(), Arc::default(), Vec::new());
        (old, Predecessor { talk, process, handed, held, admin: None })
    }

    #[test]
    fn the_place_of_one_that_dies_once_it_has_said_go_is_this_one_s() {
        let (old, predecessor) = predecessor();
        old.say(&FromOld::Go, None).expect("there is room");
        predecessor.ready(["a"].into_iter(), Vec::new()).expect("it says so");
        drop(old);
        let (tell, told) = channel();
        let heard = move |word| tell.send(word).expect("it is waited for");
        predecessor.serving(heard).expect("there is nobody else to serve");
        assert_eq!(told.iter().collect::<Vec<_>>(), [Word::Yours]);
    }

    #[test]
    fn one_that_dies_before_has_nobody_take_its_place() {
        let (old, predecessor) = predecessor();
        drop(old);
        let ready = predecessor.ready(["a"].into_iter(), Vec::new());
        assert!(matches!(ready, Err(MeetError::Gone | MeetError::Talk(_))), "{ready:?}");
        let (old, predecessor) = self::predecessor();
        old.say(&FromOld::Drain, None).expect("there is room");
        assert!(matches!(predecessor.ready(std::iter::empty(), Vec::new()), Err(MeetError::Gone)));
    }
}
