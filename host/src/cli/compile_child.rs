//! `conet-host compile-child`: what a host starts itself as, to compile a component.

use clap::Args;

use crate::{
    exit::Exit,
    sandbox::compiler::{Confinement, child},
};

/// Compile the component on stdin. Only a host starts this.
#[derive(Args)]
pub struct CompileChild {
    /// The host's process.
    #[arg(long)]
    parent: i32,
    #[arg(long)]
    cpu_seconds: u64,
    #[arg(long)]
    memory_bytes: u64,
    #[arg(long)]
    give_way: bool,
}

impl CompileChild {
    /// Does it.
    pub fn run(self) -> Exit {
        let Self { parent, cpu_seconds, memory_bytes, give_way: gives_way } = self;
        child::run(&Confinement { parent, cpu_seconds, memory_bytes, gives_way })
    }
}
