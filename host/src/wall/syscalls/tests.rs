//! The filters are run here as the kernel runs them, on calls that nobody has to make.

use super::*;

/// What the kernel would do with a call.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Allowed,
    Logged,
    Fails(i32),
    Killed,
}

/// Runs a program: the instructions are those of `linux/filter.h`, of which seccomp has words only.
fn run(program: &BpfProgram, call: i64, arguments: [u64; 6]) -> Verdict {
    let mut data = Vec::new();
    data.extend((call as u32).to_le_bytes());
    data.extend(ARCHITECTURE.to_le_bytes());
    data.extend(0_u64.to_le_bytes());
    arguments.iter().for_each(|argument| data.extend(argument.to_le_bytes()));
    let (mut at, mut value) = (0_usize, 0_u32);
    loop {
        let step = &program[at];
        at += 1;
        let mut jump = |holds: bool| at += usize::from(if holds { step.jt } else { step.jf });
        match step.code {
            LOAD => {
                let offset = step.k as usize;
                value = u32::from_le_bytes(data[offset..offset + 4].try_into().expect("four bytes"));
            }
            AND => value &= step.k,
            JUMP => at += step.k as usize,
            JUMP_EQUAL => jump(value == step.k),
            JUMP_GREATER => jump(value > step.k),
            JUMP_GREATER_EQUAL => jump(value >= step.k),
            RETURN => {
                return match step.k & 0xffff_0000 {
                    libc::SECCOMP_RET_ALLOW => Verdict::Allowed,
                    libc::SECCOMP_RET_LOG => Verdict::Logged,
                    libc::SECCOMP_RET_ERRNO => Verdict::Fails((step.k & 0xffff) as i32),
                    _ => Verdict::Killed,
                };
            }
            code => panic!("the instruction {code:#x} is not known here"),
        }
    }
}

fn refuses(call: i64, arguments: [u64; 6]) -> bool {
    let verdict = run(&known(false, true).expect("it is right"), call, arguments);
    assert!(matches!(verdict, Verdict::Allowed | Verdict::Fails(libc::EPERM)), "{call}: {verdict:?}");
    verdict != Verdict::Allowed
}

/// With these as its first arguments.
fn with(arguments: &[i32]) -> [u64; 6] {
    let mut all = [0; 6];
    all.iter_mut().zip(arguments).for_each(|(all, argument)| *all = *argument as u32 as u64);
    all
}

#[test]
fn what_no_host_needs_is_refused() {
    for (name, call) in [
        ("bpf", libc::SYS_bpf),
        ("ptrace", libc::SYS_ptrace),
        ("mount", libc::SYS_mount),
        ("umount2", libc::SYS_umount2),
        ("move_mount", libc::SYS_move_mount),
        ("open_tree", libc::SYS_open_tree),
        ("pivot_root", libc::SYS_pivot_root),
        ("chroot", libc::SYS_chroot),
        ("keyctl", libc::SYS_keyctl),
        ("add_key", libc::SYS_add_key),
        ("request_key", libc::SYS_request_key),
        ("userfaultfd", libc::SYS_userfaultfd),
        ("kexec_load", libc::SYS_kexec_load),
        ("init_module", libc::SYS_init_module),
        ("finit_module", libc::SYS_finit_module),
        ("delete_module", libc::SYS_delete_module),
        ("unshare", libc::SYS_unshare),
        ("setns", libc::SYS_setns),
        ("perf_event_open", libc::SYS_perf_event_open),
        ("process_vm_readv", libc::SYS_process_vm_readv),
        ("process_vm_writev", libc::SYS_process_vm_writev),
        ("pidfd_getfd", libc::SYS_pidfd_getfd),
        ("kcmp", libc::SYS_kcmp),
        ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ("name_to_handle_at", libc::SYS_name_to_handle_at),
        ("execveat", libc::SYS_execveat),
        ("memfd_secret", libc::SYS_memfd_secret),
        ("personality", libc::SYS_personality),
        ("setuid", libc::SYS_setuid),
        ("setresuid", libc::SYS_setresuid),
        ("setgroups", libc::SYS_setgroups),
        ("capset", libc::SYS_capset),
        ("reboot", libc::SYS_reboot),
        ("swapon", libc::SYS_swapon),
        ("acct", libc::SYS_acct),
        ("syslog", libc::SYS_syslog),
        ("sethostname", libc::SYS_sethostname),
        ("settimeofday", libc::SYS_settimeofday),
        ("clock_settime", libc::SYS_clock_settime),
        ("fanotify_init", libc::SYS_fanotify_init),
        ("mknodat", libc::SYS_mknodat),
        ("fchownat", libc::SYS_fchownat),
        ("shmget", libc::SYS_shmget),
        ("pkey_mprotect", libc::SYS_pkey_mprotect),
        ("remap_file_pages", libc::SYS_remap_file_pages),
        ("vmsplice", libc::SYS_vmsplice),
        ("quotactl", libc::SYS_quotactl),
    ] {
        assert!(refuses(call, [0; 6]), "{name} is let through");
    }
}

#[test]
fn a_call_that_nobody_knows_yet_is_refused() {
    let allowed = allowed(true).expect("it is right");
    let passes = |call: &i64| !refuses(*call, [0; 6]);
    let passing: Vec<i64> = (0..2048).filter(passes).collect();
    let unlisted: Vec<&i64> = passing.iter().filter(|call| !allowed.contains_key(call)).collect();
    assert!(unlisted.is_empty(), "{unlisted:?}");
    // Calls of x86-64's other ABI have this bit.
    assert!(refuses(libc::SYS_read | 0x4000_0000, [0; 6]));
}

#[test]
fn sockets_are_of_the_network_or_of_this_machine() {
    let stream = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    for (family, kind, protocol, passes) in [
        (libc::AF_INET, stream, 0, true),
        (libc::AF_INET6, stream, libc::IPPROTO_TCP, true),
        (libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0, true),
        (libc::AF_UNIX, stream, 0, true),
        (libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE, true),
        (libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT, false),
        (libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER, false),
        (libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP, false),
        (libc::AF_INET6, libc::SOCK_RAW, 0, false),
        (libc::AF_PACKET, libc::SOCK_RAW, 0, false),
        (libc::AF_PACKET, libc::SOCK_DGRAM, 0, false),
        (libc::AF_ALG, libc::SOCK_SEQPACKET, 0, false),
        (libc::AF_VSOCK, stream, 0, false),
        (libc::AF_BLUETOOTH, stream, 0, false),
        (libc::AF_TIPC, stream, 0, false),
    ] {
        let call = with(&[family, kind, protocol]);
        assert_eq!(refuses(libc::SYS_socket, call), !passes, "{family} {kind:#x} {protocol}");
    }
    assert!(refuses(libc::SYS_socketpair, with(&[libc::AF_TIPC, stream, 0])));
    assert!(!refuses(libc::SYS_socketpair, with(&[libc::AF_UNIX, stream, 0])));
}

#[test]
fn memory_is_written_or_executed() {
    let (read, write, execute) = (libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        for (protection, passes) in [
            (libc::PROT_NONE, true),
            (read, true),
            (read | write, true),
            (read | execute, true),
            (write | execute, false),
            (read | write | execute, false),
            (read | write | execute | libc::PROT_GROWSDOWN, false),
        ] {
            assert_eq!(refuses(call, with(&[0, 4096, protection])), !passes, "{protection:#x}");
        }
    }
}

#[test]
fn threads_and_children_stay_in_their_namespaces() {
    let thread =
        libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_THREAD | libc::CLONE_SIGHAND;
    assert!(!refuses(libc::SYS_clone, with(&[thread])));
    assert!(!refuses(libc::SYS_clone, with(&[libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD])));
    for namespace in [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWCGROUP,
    ] {
        assert!(refuses(libc::SYS_clone, with(&[namespace | libc::SIGCHLD])), "{namespace:#x}");
    }
    let first = unknown().expect("it is right");
    assert_eq!(run(&first, libc::SYS_clone3, [0; 6]), Verdict::Fails(libc::ENOSYS));
    assert_eq!(run(&first, libc::SYS_clone, [0; 6]), Verdict::Allowed);
}

#[test]
fn little_may_be_asked_of_prctl_and_ioctl() {
    assert!(!refuses(libc::SYS_prctl, with(&[libc::PR_SET_NAME])));
    for option in [libc::PR_SET_MM, libc::PR_SET_KEEPCAPS, libc::PR_SET_SECUREBITS, libc::PR_SET_PTRACER] {
        assert!(refuses(libc::SYS_prctl, with(&[option])), "{option}");
    }
    assert!(!refuses(libc::SYS_ioctl, with(&[0, libc::FIONBIO as i32])));
    // The kernel looks at 32 bits of it; a filter that looked at 64 would be passed by.
    let pushes = [0, libc::TIOCSTI | 0xdead_0000_0000, 0, 0, 0, 0];
    assert!(refuses(libc::SYS_ioctl, pushes));
    assert!(refuses(libc::SYS_ioctl, with(&[0, libc::TIOCSTI as i32])));
}

#[test]
fn rings_are_for_the_driver_that_has_them() {
    let without = known(false, false).expect("it is right");
    assert_eq!(run(&without, libc::SYS_io_uring_setup, [0; 6]), Verdict::Fails(libc::EPERM));
    assert!(!refuses(libc::SYS_io_uring_setup, [0; 6]));
}

#[test]
fn a_compiler_computes_and_answers() {
    let program = of_a_compiler().expect("it is right");
    let allowed = |call, arguments| run(&program, call, arguments) == Verdict::Allowed;
    for (name, call) in [
        ("openat", libc::SYS_openat),
        ("openat2", libc::SYS_openat2),
        ("socket", libc::SYS_socket),
        ("socketpair", libc::SYS_socketpair),
        ("connect", libc::SYS_connect),
        ("sendto", libc::SYS_sendto),
        ("execve", libc::SYS_execve),
        ("execveat", libc::SYS_execveat),
        ("memfd_create", libc::SYS_memfd_create),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("kill", libc::SYS_kill),
        ("pidfd_open", libc::SYS_pidfd_open),
        ("unlinkat", libc::SYS_unlinkat),
        ("dup3", libc::SYS_dup3),
        ("ioctl", libc::SYS_ioctl),
        ("ptrace", libc::SYS_ptrace),
    ] {
        assert!(!allowed(call, [0; 6]), "{name} is let through");
    }
    assert!(allowed(libc::SYS_read, [0; 6]) && allowed(libc::SYS_write, [0; 6]));
    assert!(allowed(libc::SYS_mmap, with(&[0, 4096, libc::PROT_READ | libc::PROT_WRITE])));
    assert!(!allowed(libc::SYS_mmap, with(&[0, 4096, libc::PROT_READ | libc::PROT_EXEC])));
    assert!(!allowed(libc::SYS_mprotect, with(&[0, 4096, libc::PROT_EXEC])));
    assert!(allowed(libc::SYS_clone, with(&[libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND])));
    assert!(!allowed(libc::SYS_clone, with(&[libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD])));
    assert!(!allowed(libc::SYS_clone, with(&[libc::SIGCHLD])));
}

#[test]
fn what_only_logs_refuses_nothing() {
    let program = known(true, true).expect("it is right");
    assert_eq!(run(&program, libc::SYS_bpf, [0; 6]), Verdict::Logged);
    assert_eq!(run(&program, libc::SYS_read, [0; 6]), Verdict::Allowed);
}

#[test]
fn another_processor_s_calls_are_no_way_around() {
    let program = known(false, true).expect("it is right");
    let first = &program[..4];
    assert!(first.iter().any(|step| step.code == JUMP_EQUAL && step.k == ARCHITECTURE), "{first:?}");
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;
