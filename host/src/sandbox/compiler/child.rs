//! The child: this program started anew, by itself, to compile one component.

use std::io;

use super::{Confinement, answer::Answer, code, job};
use crate::exit::Exit;

/// Compiles what is on stdin, and answers on stdout. What goes wrong besides is said on stderr.
pub fn run(confinement: &Confinement) -> Exit {
    // Before anything is read that a stranger wrote.
    let done = confinement.take_effect().and_then(|()| {
        let (codegen, component) = job::read(io::stdin().lock())?;
        let answer = match code(&component, &codegen) {
            Ok(code) => Answer::Code(code),
            Err(error) => Answer::Refused(error.to_string()),
        };
        answer.write(io::stdout().lock())
    });
    match done {
        Ok(()) => Exit::Done,
        Err(error) => {
            eprintln!("{error}");
            Exit::Guest(1)
        }
    }
}
