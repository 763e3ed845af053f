use super::*;
use rustix::event::{EventfdFlags, eventfd};

/// What comes of a child that does this.
fn child(script: &str, limits: &CompileLimits) -> Result<Answer, CompileError> {
    let stop = eventfd(0, EventfdFlags::CLOEXEC).expect("there are descriptors");
    start(script).answer(limits, &stop)
}

fn start(script: &str) -> Process {
    let mut shell = Command::new("/bin/sh");
    let shell = shell.args(["-c", script]).env_clear().stdin(Stdio::null());
    Process::start(shell, ANSWER_BYTES_MAX).expect("there is a shell")
}

fn patient() -> CompileLimits {
    CompileLimits { time_max: Duration::from_secs(600), ..CompileLimits::default() }
}

/// For those that are waited for to the end.
fn hasty() -> CompileLimits {
    CompileLimits { time_max: Duration::from_millis(100), ..CompileLimits::default() }
}

#[test]
fn a_whole_answer_is_one() {
    let answer = child(r"printf 'c\003\0\0\0\0\0\0\0abc'", &patient());
    assert_eq!(answer.expect("it is whole"), Answer::Code(b"abc".to_vec()));
    let answer = child(r"printf 'r\002\0\0\0\0\0\0\0'; printf no", &patient());
    assert_eq!(answer.expect("it is whole"), Answer::Refused("no".to_owned()));
}

#[test]
fn parts_garbage_and_nothing_are_errors() {
    for script in [
        "true",
        "printf garbage",
        r"printf 'c\003\0\0\0\0\0\0\0ab'",
        r"printf 'c\003\0\0\0\0\0\0\0abcd'",
        // Whole, and then it fails.
        r"printf 'c\003\0\0\0\0\0\0\0abc'; exit 1",
    ] {
        let error = child(script, &patient()).expect_err(script);
        assert!(matches!(error, CompileError::NoAnswer { .. }), "{script}: {error}");
    }
}

#[test]
fn its_last_words_are_told() {
    let error = child("echo 'it is broken' >&2; exit 1", &patient()).expect_err("no answer").to_string();
    assert!(error.ends_with("without an answer, after the words `it is broken`"), "{error}");
    let error = child("kill -SEGV $$", &patient()).expect_err("no answer").to_string();
    assert!(error.ends_with("ended by signal 11"), "{error}");
}

/// What it does with its streams: says nothing, closes them, fills one or the other.
#[test]
fn who_does_not_end_is_ended() {
    for script in [
        "exec sleep 600",
        "exec >&- 2>&-; exec sleep 600",
        "while :; do echo talk >&2; done",
        r"printf 'c\003\0\0\0\0\0\0\0abc'; exec sleep 600",
    ] {
        let error = child(script, &hasty()).expect_err(script);
        assert!(matches!(error, CompileError::Time(_)), "{script}: {error}");
    }
}

#[test]
fn an_answer_that_is_too_long_is_not_kept() {
    let error = child("while :; do echo talk; done", &patient()).expect_err("too long");
    assert!(error.to_string().contains("more than 1000000 bytes of code"), "{error}");
}

#[test]
fn it_is_stopped_when_the_host_ends() {
    let stop = eventfd(1, EventfdFlags::CLOEXEC).expect("there are descriptors");
    let process = start("exec sleep 600");
    let end = process.end.try_clone().expect("there are descriptors");
    let error = process.answer(&patient(), &stop).expect_err("it is to stop");
    assert!(matches!(error, CompileError::Stopped), "{error}");
    // It has ended, and nothing of it is left.
    let mut ended = [PollFd::new(&end, PollFlags::IN)];
    assert_eq!(poll(&mut ended, Some(&Timespec::default())), Ok(1));
}

const ANSWER_BYTES_MAX: usize = 1_000_000;
