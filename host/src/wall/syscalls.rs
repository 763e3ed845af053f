//! System calls that this process has a use for, by seccomp: the others fail with EPERM.
//!
//! The list is what the tests' calls were seen to be, and what the same functions of other libcs, kernels and
//! processors call. Where the number alone says too little, arguments are looked at. Those a filter cannot see are
//! behind pointers: which file is opened or executed is for Landlock. Nor does it see what is asked of a ring of
//! io_uring.

mod list;

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter_all_threads,
};

/// Filters from here on, on all threads. One that only logs refuses nothing, and the kernel's log has what it would refuse.
pub(super) fn filter(logs: bool, io_uring: bool) -> Result<(), String> {
    // Both hold, and of two that refuse the one that was there last.
    for program in [unknown(), known(logs, io_uring)] {
        let program = program.map_err(|error| error.to_string())?;
        apply_filter_all_threads(&program).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Filters what compiles a component, on top of what its host does not let it: nothing is opened, connected to, started or
/// executed, and no memory becomes code.
pub(super) fn filter_compiler() -> Result<(), String> {
    for program in [unknown(), of_a_compiler()] {
        let program = program.map_err(|error| error.to_string())?;
        apply_filter_all_threads(&program).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn of_a_compiler() -> Result<BpfProgram, BackendError> {
    let whole = list::OF_A_COMPILER.iter().chain(list::UNKNOWN);
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> = whole.map(|call| (*call, Vec::new())).collect();
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        calls.insert(call, vec![rule(&[masked(2, libc::PROT_EXEC, 0)])?]);
    }
    // Threads, and no children.
    calls.insert(libc::SYS_clone, vec![rule(&[masked(0, libc::CLONE_THREAD, libc::CLONE_THREAD)])?]);
    let names = [libc::PR_SET_NAME, libc::PR_SET_VMA];
    let names = names.iter().map(|name| rule(&[is(0, *name)])).collect::<Result<_, _>>()?;
    calls.insert(libc::SYS_prctl, names);
    program(calls, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow)
}

/// What has its arguments behind a pointer is not there: libc then takes the call that came before it.
fn unknown() -> Result<BpfProgram, BackendError> {
    let calls = list::UNKNOWN.iter().map(|call| (*call, Vec::new())).collect();
    let missing = SeccompAction::Errno(libc::ENOSYS as u32);
    program(calls, SeccompAction::Allow, missing)
}

fn known(logs: bool, io_uring: bool) -> Result<BpfProgram, BackendError> {
    let refused = if logs { SeccompAction::Log } else { SeccompAction::Errno(libc::EPERM as u32) };
    program(allowed(io_uring)?, refused, SeccompAction::Allow)
}

fn program(
    calls: BTreeMap<i64, Vec<SeccompRule>>,
    others: SeccompAction,
    these: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(calls, others, these, std::env::consts::ARCH.try_into()?)?.try_into()
}

/// Each call with the rules of which one must hold; none must where there are none.
fn allowed(io_uring: bool) -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let whole = list::CALLS.iter().chain(list::OF_THIS_PROCESSOR).chain(list::UNKNOWN);
    let ring = list::IO_URING.iter().filter(|_| io_uring);
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> =
        whole.chain(ring).map(|call| (*call, Vec::new())).collect();

    // A socket of the network, of this machine, or the one that libc asks for the machine's addresses.
    let mut sockets = vec![rule(&[is(0, libc::AF_UNIX)])?];
    sockets.push(rule(&[is(0, libc::AF_NETLINK), is(2, libc::NETLINK_ROUTE)])?);
    for family in [libc::AF_INET, libc::AF_INET6] {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
            sockets.push(rule(&[is(0, family), masked(1, SOCKET_KIND, kind)])?);
        }
    }
    calls.insert(libc::SYS_socket, sockets);
    calls.insert(libc::SYS_socketpair, vec![rule(&[is(0, libc::AF_UNIX)])?]);

    // Memory is written or executed, never both at once.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let one_of_both =
            vec![rule(&[masked(2, libc::PROT_WRITE, 0)])?, rule(&[masked(2, libc::PROT_EXEC, 0)])?];
        calls.insert(call, one_of_both);
    }

    // How it is scheduled a thread says of itself.
    calls.insert(libc::SYS_sched_setattr, vec![rule(&[is(0, 0)])?]);

    // Threads and children, in the namespaces there are.
    calls.insert(libc::SYS_clone, vec![rule(&[masked(0, NAMESPACES, 0)])?]);

    for (call, argument, values) in [(libc::SYS_prctl, 0, list::PRCTL), (libc::SYS_ioctl, 1, list::IOCTL)] {
        let rules = values.iter().map(|value| rule(&[Argument(argument, SeccompCmpOp::Eq, *value)]));
        calls.insert(call, rules.collect::<Result<_, _>>()?);
    }
    Ok(calls)
}

/// An argument's lower half, for what the kernel takes an `int` for.
struct Argument(u8, SeccompCmpOp, u32);

fn is(index: u8, value: libc::c_int) -> Argument {
    Argument(index, SeccompCmpOp::Eq, value as u32)
}

fn masked(index: u8, mask: libc::c_int, value: libc::c_int) -> Argument {
    Argument(index, SeccompCmpOp::MaskedEq(u64::from(mask as u32)), value as u32)
}

fn rule(all: &[Argument]) -> Result<SeccompRule, BackendError> {
    let condition = |Argument(index, operator, value): &Argument| {
        SeccompCondition::new(*index, SeccompCmpArgLen::Dword, operator.clone(), u64::from(*value))
    };
    SeccompRule::new(all.iter().map(condition).collect::<Result<_, _>>()?)
}

/// Without the flags that a socket is made with.
const SOCKET_KIND: libc::c_int = 0xf;

const NAMESPACES: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

#[cfg(test)]
mod tests;
