//! The filter as the kernel would run it, against a plain reading of the
//! profile; and the default filter in the running kernel.

use proptest::prelude::*;

use super::bpf::{AND, JUMP, JUMP_EQ, JUMP_GE, JUMP_GT, LOAD, RETURN};
use super::profile::{Action, Architecture, Comparison, Condition, Profile, Rule, When};
use super::table::Call;
use super::*;
use crate::kernel::seccomp::Instruction;
use crate::sandbox::capabilities::{self, bit};

/// One system call as a filter sees it.
#[derive(Debug, Clone, Copy)]
struct Seen {
    number: u32,
    audit: u32,
    arguments: [u64; 6],
}

fn default_filter(capabilities: u64) -> Filter {
    Policy::default_profile(capabilities).filter().unwrap()
}

/// Runs a filter, checking what the kernel's verifier does: jumps stay inside,
/// and the end is a return.
fn run(program: &[Instruction], seen: Seen) -> u32 {
    let word = |offset: u32| match offset {
        0 => seen.number,
        4 => seen.audit,
        16..64 if offset.is_multiple_of(8) => seen.arguments[(offset as usize - 16) / 8] as u32,
        16..64 if offset % 8 == 4 => (seen.arguments[(offset as usize - 16) / 8] >> 32) as u32,
        _ => panic!("load from {offset}"),
    };
    let (mut at, mut a) = (0, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        let jump = |yes: bool| usize::from(if yes { jt } else { jf });
        at += 1;
        match code {
            LOAD => a = word(k),
            AND => a &= k,
            JUMP => at += k as usize,
            JUMP_EQ => at += jump(a == k),
            JUMP_GT => at += jump(a > k),
            JUMP_GE => at += jump(a >= k),
            RETURN => return k,
            _ => panic!("operation {code:#x}"),
        }
    }
}

fn holds(condition: &Condition, arguments: &[u64; 6]) -> bool {
    let argument = arguments[usize::from(condition.argument)];
    match condition.comparison {
        Comparison::Eq(value) => argument == value,
        Comparison::Ne(value) => argument != value,
        Comparison::Lt(value) => argument < value,
        Comparison::Le(value) => argument <= value,
        Comparison::Gt(value) => argument > value,
        Comparison::Ge(value) => argument >= value,
        Comparison::MaskedEq { mask, value } => argument & mask == value,
    }
}

/// What the documentation of `profile` says, word by word.
fn reading(profile: &Profile, architecture: Architecture, capabilities: u64, seen: Seen) -> Action {
    if seen.audit != architecture.audit() {
        return profile.foreign;
    }
    let is_it = |number: u16| u32::from(number) == seen.number;
    if !table::known(architecture).any(is_it) || seen.number > u32::from(profile.newest) {
        return profile.unknown;
    }
    let matches = |rule: &&Rule| {
        rule.when.holds(capabilities)
            && rule.calls.iter().any(|call| call.number(architecture).is_some_and(is_it))
            && rule.conditions.iter().all(|condition| holds(condition, &seen.arguments))
    };
    // `min_by_key` takes the first of equals.
    let strictest = profile.rules.iter().filter(matches).min_by_key(|rule| rule.action.leniency());
    strictest.map_or(profile.default, |rule| rule.action)
}

fn value() -> impl Strategy<Value = u64> {
    let near = [0, 1, 2, 38, 40, 0x5412, 0x541c, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0028, 0x7e02_0000, u64::MAX];
    prop_oneof![proptest::sample::select(near.to_vec()), any::<u64>(), 0_u64..64]
}

fn comparison() -> impl Strategy<Value = Comparison> {
    prop_oneof![
        value().prop_map(Comparison::Eq),
        value().prop_map(Comparison::Ne),
        value().prop_map(Comparison::Lt),
        value().prop_map(Comparison::Le),
        value().prop_map(Comparison::Gt),
        value().prop_map(Comparison::Ge),
        (value(), value()).prop_map(|(mask, value)| Comparison::MaskedEq { mask, value }),
        (value(), value()).prop_map(|(mask, value)| Comparison::MaskedEq { mask, value: value & mask }),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::KillProcess),
        Just(Action::KillThread),
        Just(Action::Trap),
        Just(Action::Log),
        Just(Action::Allow),
        any::<u16>().prop_map(Action::Trace),
        (0_u16..=4095).prop_map(Action::Errno),
    ]
}

const SOME_CALLS: &[Call] =
    &[Call::read, Call::write, Call::socket, Call::clone, Call::ioctl, Call::mseal, Call::uname, Call::mknodat];

fn rule() -> impl Strategy<Value = Rule> {
    let condition = (0_u8..6, comparison()).prop_map(|(argument, comparison)| Condition { argument, comparison });
    let calls = proptest::collection::vec(proptest::sample::select(SOME_CALLS.to_vec()), 0..4);
    let when = (proptest::sample::select(vec![0, bit(1), bit(2)]), proptest::sample::select(vec![0, bit(2)]));
    (calls, proptest::collection::vec(condition, 0..4), action(), when).prop_map(
        |(calls, conditions, action, (with, without))| Rule {
            calls: Cow::Owned(calls),
            conditions: Cow::Owned(conditions),
            action,
            when: When { with, without },
        },
    )
}

fn profile() -> impl Strategy<Value = Profile> {
    let newest = proptest::sample::select(vec![0, 41, 200, u16::MAX]);
    let rules = proptest::collection::vec(rule(), 0..40);
    (action(), action(), action(), newest, rules).prop_map(|(default, unknown, foreign, newest, rules)| Profile {
        default,
        unknown,
        foreign,
        newest,
        rules: Cow::Owned(rules),
    })
}

fn architecture() -> impl Strategy<Value = Architecture> {
    prop_oneof![Just(Architecture::X86_64), Just(Architecture::Aarch64)]
}

fn seen() -> impl Strategy<Value = Seen> {
    let some = SOME_CALLS.iter().filter_map(|call| call.number(Architecture::X86_64)).map(u32::from);
    let number = prop_oneof![
        3 => proptest::sample::select(some.collect::<Vec<_>>()),
        3 => 0_u32..480,
        1 => (0_u32..480).prop_map(|number| number | 0x4000_0000),
        1 => any::<u32>(),
    ];
    let audit = prop_oneof![
        8 => Just(Architecture::X86_64.audit()),
        8 => Just(Architecture::Aarch64.audit()),
        1 => Just(0x4000_0003), // i386
        1 => any::<u32>(),
    ];
    (number, audit, proptest::array::uniform6(value())).prop_map(|(number, audit, arguments)| Seen {
        number,
        audit,
        arguments,
    })
}

proptest! {
    #[test]
    fn a_filter_decides_as_its_profile_reads(
        profile in profile(), architecture in architecture(), capabilities in 0_u64..8,
        calls in proptest::collection::vec(seen(), 64),
    ) {
        let program = bpf::assemble(&profile, architecture, capabilities).unwrap();
        for seen in calls {
            prop_assert_eq!(run(&program, seen), reading(&profile, architecture, capabilities, seen).value());
        }
    }

    #[test]
    fn the_default_filter_decides_as_its_profile_reads(
        architecture in architecture(), capabilities in any::<u64>(), seen in seen(), emulate in any::<bool>(),
    ) {
        let policy = Policy::default_profile(capabilities);
        let policy = if emulate { policy.root_emulation() } else { policy };
        let program = bpf::assemble(&policy.profile, architecture, capabilities).unwrap();
        prop_assert_eq!(run(&program, seen), reading(&policy.profile, architecture, capabilities, seen).value());
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Policy::from_docker_json(&bytes, 0).is_err());
    }
}

/// Long chains of conditions need jumps beyond the reach of eight bits.
#[test]
fn far_jumps_arrive() {
    let conditions: Vec<Condition> =
        (0..6).map(|argument| Condition { argument, comparison: Comparison::Gt(u64::from(argument)) }).collect();
    let rule = |index: u16| Rule {
        calls: Cow::Owned(SOME_CALLS.to_vec()),
        conditions: Cow::Owned(conditions.iter().rev().take(usize::from(index % 6) + 1).copied().collect()),
        action: Action::Errno(index),
        when: When::ALWAYS,
    };
    let mut profile = default::PROFILE;
    profile.rules = (0..12).map(rule).collect();
    let program = bpf::assemble(&profile, Architecture::X86_64, 0).unwrap();
    assert!(program.len() > 1000);
    for number in 0..480 {
        for arguments in [[0; 6], [9; 6], [0, 9, 9, 9, 9, 9], [9, 9, 9, 0, 9, 9]] {
            let seen = Seen { number, audit: Architecture::X86_64.audit(), arguments };
            let expected = reading(&profile, Architecture::X86_64, 0, seen);
            assert_eq!(run(&program, seen), expected.value(), "{seen:?}");
        }
    }
}

#[test]
fn too_many_instructions_are_refused() {
    let mut profile = default::PROFILE;
    let rule = |value| {
        let conditions = vec![Condition { argument: 0, comparison: Comparison::Gt(value) }];
        let calls = Cow::Owned(vec![Call::read]);
        Rule { calls, conditions: Cow::Owned(conditions), action: Action::Allow, when: When::ALWAYS }
    };
    profile.rules = (0..5000).map(rule).collect();
    assert_eq!(bpf::assemble(&profile, Architecture::X86_64, 0), Err(bpf::TooLong));
}

/// The default filter on x86_64: (call, arguments 0 and 1) with a capability set.
fn check(call: Call, arguments: [u64; 2], capabilities: u64, expected: Action) {
    let program = bpf::assemble(&default::PROFILE, Architecture::X86_64, capabilities).unwrap();
    let number = u32::from(call.number(Architecture::X86_64).unwrap());
    let arguments = [arguments[0], arguments[1], 0, 0, 0, 0];
    let seen = Seen { number, audit: Architecture::X86_64.audit(), arguments };
    assert_eq!(run(&program, seen), expected.value(), "{call:?} {arguments:x?}");
}

#[test]
fn the_default_profile_holds_the_known_holes_shut() {
    let (eperm, enosys) = (Action::Errno(1), Action::Errno(38));
    let docker = capabilities::DEFAULT;
    check(Call::read, [0, 0], docker, Action::Allow);
    check(Call::chroot, [0, 0], docker, Action::Allow);
    check(Call::chroot, [0, 0], 0, eperm);
    check(Call::ioctl, [0, 0x5413], docker, Action::Allow);
    check(Call::ioctl, [0, 0x5412], docker, eperm);
    check(Call::ioctl, [0, 0xffff_ffff_0000_5412], docker, eperm);
    check(Call::ioctl, [0, 0x541c], capabilities::ALL, eperm);
    check(Call::socket, [2, 0], docker, Action::Allow);
    check(Call::socket, [38, 0], docker, eperm);
    check(Call::socket, [40, 0], docker, eperm);
    check(Call::socket, [0x1_0000_0028, 0], docker, eperm);
    check(Call::clone, [17, 0], docker, Action::Allow);
    check(Call::clone, [0x1000_0000 | 17, 0], docker, eperm);
    check(Call::clone, [0x1000_0000 | 17, 0], capabilities::ALL, Action::Allow);
    check(Call::clone3, [0, 0], docker, enosys);
    check(Call::clone3, [0, 0], bit(21), Action::Allow);
    check(Call::unshare, [0, 0], docker, eperm);
    check(Call::personality, [0, 0], docker, Action::Allow);
    check(Call::personality, [0x4_0000, 0], docker, eperm);
    check(Call::io_uring_setup, [0, 0], capabilities::ALL, enosys);
    check(Call::keyctl, [0, 0], capabilities::ALL, eperm);
    check(Call::bpf, [0, 0], docker, eperm);
    check(Call::bpf, [0, 0], bit(39), Action::Allow);
}

#[test]
fn other_architectures_and_newer_calls_are_not_there() {
    let Filter(program) = default_filter(capabilities::ALL);
    let arguments = [0; 6];
    let native = Architecture::NATIVE.audit();
    for (number, audit) in
        [(0, 0x4000_0003), (102, 0x4000_0003), (0x4000_0000, native), (470, native), (u32::MAX, native)]
    {
        assert_eq!(
            run(&program, Seen { number, audit, arguments }),
            Action::Errno(38).value(),
            "{number:#x} {audit:#x}"
        );
    }
}

#[test]
fn a_refusal_stands_beside_root_emulation() {
    let json = br#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["fchown"],"action":"SCMP_ACT_ERRNO"}]}"#;
    let Filter(program) = Policy::from_docker_json(json, 0).unwrap().root_emulation().filter().unwrap();
    let errno = |call: Call, arguments| {
        let number = u32::from(call.number(Architecture::NATIVE).unwrap());
        run(&program, Seen { number, audit: Architecture::NATIVE.audit(), arguments })
    };
    assert_eq!(errno(Call::fchown, [0; 6]), Action::Errno(1).value());
    assert_eq!(errno(Call::fchownat, [0; 6]), Action::Errno(0).value());
    let (character, fifo) = (u64::from(libc::S_IFCHR | 0o600), u64::from(libc::S_IFIFO | 0o600));
    assert_eq!(errno(Call::mknodat, [0, 0, character, 0x103, 0, 0]), Action::Errno(0).value());
    assert_eq!(errno(Call::mknodat, [0, 0, character, 0, 0, 0]), Action::Allow.value());
    assert_eq!(errno(Call::mknodat, [0, 0, fifo, 0x103, 0, 0]), Action::Allow.value());
}

/// A filter binds the thread that installs it, so a thread of the test's own
/// is confined for real.
#[test]
fn the_kernel_takes_the_default_filter() {
    let confined = std::thread::spawn(|| {
        nix::sys::prctl::set_no_new_privs().unwrap();
        crate::kernel::seccomp::install(&default_filter(0).0).unwrap();
        (
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER),
            nix::unistd::chroot("/"),
            std::fs::read("/proc/self/status").map(|bytes| bytes.is_empty()).map_err(|error| error.to_string()),
        )
    });
    let (unshared, chrooted, read) = confined.join().unwrap();
    assert_eq!((unshared, chrooted), (Err(nix::errno::Errno::EPERM), Err(nix::errno::Errno::EPERM)));
    assert_eq!(read, Ok(false));
}

#[test]
fn the_kernel_takes_root_emulation() {
    let emulated = std::thread::spawn(|| {
        nix::sys::prctl::set_no_new_privs().unwrap();
        crate::kernel::seccomp::install(&Policy::unconfined().root_emulation().filter().unwrap().0).unwrap();
        nix::unistd::chown("/", Some(nix::unistd::Uid::from_raw(12345)), None)
    });
    assert_eq!(emulated.join().unwrap(), Ok(()));
    assert_ne!(std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/").unwrap()), 12345);
}

/// An install costs by the instruction; a change that doubles them should be seen.
#[test]
fn the_default_filter_is_small() {
    let count = default_filter(capabilities::DEFAULT).0.len();
    assert!(count < 350, "{count} instructions");
}
