//! What the commands have in common that measure a host of conet's on a core of its own.

use std::path::PathBuf;

use clap::Args;
use conet_bench::contender::Build;
use conet_bench::hosted::Stage;

#[derive(Args)]
pub(super) struct StageArgs {
    /// The core of the host.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core of the load.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Whether to build the host and its guests first.
    #[arg(long, value_enum, default_value_t = Build::Missing)]
    build: Build,
    /// Also write the table into this file, between its lines `<!-- compare COMMAND -->` and `<!-- /compare COMMAND -->`.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

impl From<StageArgs> for Stage {
    fn from(args: StageArgs) -> Self {
        let StageArgs { server_core, load_core, build, markdown } = args;
        Self { server_core, load_core, build, markdown }
    }
}
