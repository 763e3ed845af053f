//! WASI 0.2, interface by interface: what is linked, and with what behind it.
//!
//! Clocks, polls and output are conet's own. Sockets are linked so that programs that mention them load, and every use is
//! refused: the network is conet:net's. Folders are there only if granted.

use std::os::fd::AsRawFd;

use wasmtime::component::Linker;
use wasmtime_wasi::{
    FsPerms, WasiCtx, WasiCtxBuilder, WasiView,
    cli::{WasiCli, WasiCliView},
    filesystem::{WasiFilesystem, WasiFilesystemView},
    p2::bindings::{cli, filesystem, random, sockets},
    random::WasiRandom,
    sockets::{WasiSockets, WasiSocketsView},
};

use super::{Context, HasView, clocks, io, stdio};

/// Links it all.
pub(crate) fn add_to_linker<T: HasView>(l: &mut Linker<T>) -> wasmtime::Result<()> {
    io::add_to_linker(l)?;
    clocks::add_to_linker(l)?;
    random::random::add_to_linker::<T, WasiRandom>(l, |t| t.view().ctx().ctx.random())?;
    random::insecure::add_to_linker::<T, WasiRandom>(l, |t| t.view().ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<T, WasiRandom>(l, |t| t.view().ctx().ctx.random())?;
    stdio::add_to_linker(l)?;
    add_cli(l)?;
    filesystem::preopens::add_to_linker::<T, WasiFilesystem>(l, |t| t.view().filesystem())?;
    filesystem::types::add_to_linker::<T, WasiFilesystem>(l, |t| t.view().filesystem())?;
    add_sockets(l)
}

fn add_cli<T: HasView>(l: &mut Linker<T>) -> wasmtime::Result<()> {
    cli::exit::add_to_linker::<T, WasiCli>(l, |t| t.view().cli())?;
    cli::environment::add_to_linker::<T, WasiCli>(l, |t| t.view().cli())?;
    cli::stdin::add_to_linker::<T, WasiCli>(l, |t| t.view().cli())?;
    cli::terminal_input::add_to_linker::<T, WasiCli>(l, |t| t.view().cli())?;
    cli::terminal_output::add_to_linker::<T, WasiCli>(l, |t| t.view().cli())?;
    cli::terminal_stdin::add_to_linker::<T, WasiCli>(l, |t| t.view().cli())?;
    cli::terminal_stdout::add_to_linker::<T, WasiCli>(l, |t| t.view().cli())?;
    cli::terminal_stderr::add_to_linker::<T, WasiCli>(l, |t| t.view().cli())
}

fn add_sockets<T: HasView>(l: &mut Linker<T>) -> wasmtime::Result<()> {
    let options = sockets::network::LinkOptions::default();
    sockets::network::add_to_linker::<T, WasiSockets>(l, &options, |t| t.view().sockets())?;
    sockets::instance_network::add_to_linker::<T, WasiSockets>(l, |t| t.view().sockets())?;
    sockets::ip_name_lookup::add_to_linker::<T, WasiSockets>(l, |t| t.view().sockets())?;
    sockets::tcp::add_to_linker::<T, WasiSockets>(l, |t| t.view().sockets())?;
    sockets::tcp_create_socket::add_to_linker::<T, WasiSockets>(l, |t| t.view().sockets())?;
    sockets::udp::add_to_linker::<T, WasiSockets>(l, |t| t.view().sockets())?;
    sockets::udp_create_socket::add_to_linker::<T, WasiSockets>(l, |t| t.view().sockets())
}

/// The WASI state of one instance: the tenant's arguments, environment and folders, no network.
pub(crate) fn context(context: &Context) -> WasiCtx {
    let mut wasi = WasiCtxBuilder::new();
    wasi.args(&context.args).envs(&context.env).max_random_size(RANDOM_BYTES_MAX);
    wasi.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
    if context.stdin {
        wasi.inherit_stdin();
    }
    for folder in &context.dirs {
        let perms = if folder.writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
        // By descriptor: what was opened at start is what the guest gets, whatever stands at the path now.
        let opened = format!("/proc/self/fd/{}", folder.dir.as_raw_fd());
        if let Err(error) = wasi.preopened_dir(opened, &folder.guest_path, perms) {
            tracing::warn!(tenant = %context.name, folder = %folder.guest_path, %error, "cannot hand a folder on");
        }
    }
    wasi.build()
}

/// Bytes of one call for random ones.
const RANDOM_BYTES_MAX: u64 = 64 << 10;
