//! What a seccomp filter decides, before it is instructions.
//!
//! A [`Profile`] is a list of rules over system calls. How it is read:
//!
//! 1. A call made for another architecture than the filter's gets `foreign`.
//! 2. A number that the table of calls does not have, or above the newest call
//!    that the profile knows of, gets `unknown`.
//! 3. Of the rules that name the call and whose conditions all hold, the
//!    strictest action counts; of equally strict ones the first. So a refusal
//!    is never lost because the call is also on a long list of allowed ones.
//!    (libseccomp drops a conditional rule beside an unconditional one.)
//! 4. Otherwise `default`.

use std::borrow::Cow;

use super::table::Call;

/// An instruction set that kelp has system call numbers of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Architecture {
    /// 64-bit x86, also called amd64.
    X86_64,
    /// 64-bit Arm, also called arm64.
    Aarch64,
}

impl Architecture {
    /// What this program was built for.
    pub(super) const NATIVE: Self = if cfg!(target_arch = "x86_64") {
        Self::X86_64
    } else if cfg!(target_arch = "aarch64") {
        Self::Aarch64
    } else {
        panic!("no system call numbers for this architecture")
    };

    /// `AUDIT_ARCH_*` of linux/audit.h: the ELF machine, 64-bit, little-endian.
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    /// Go's name, which Docker's profiles use.
    pub(super) fn go_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// The whole process dies (SIGSYS).
    KillProcess,
    /// The thread dies.
    KillThread,
    /// SIGSYS, which the program may handle.
    Trap,
    /// The call returns this errno; 0 is a success that did nothing.
    Errno(u16),
    /// A tracer decides, with this message; without one ENOSYS.
    Trace(u16),
    /// Allowed, and logged.
    Log,
    /// Allowed.
    Allow,
}

impl Action {
    /// `SECCOMP_RET_*` with its data (linux/seccomp.h).
    pub(super) fn value(self) -> u32 {
        match self {
            Self::KillProcess => 0x8000_0000,
            Self::KillThread => 0,
            Self::Trap => 0x0003_0000,
            Self::Errno(errno) => 0x0005_0000 | u32::from(errno),
            Self::Trace(message) => 0x7ff0_0000 | u32::from(message),
            Self::Log => 0x7ffc_0000,
            Self::Allow => 0x7fff_0000,
        }
    }

    /// 0 is the strictest. The kernel's order between filters (seccomp(2)).
    pub(super) fn leniency(self) -> u8 {
        match self {
            Self::KillProcess => 0,
            Self::KillThread => 1,
            Self::Trap => 2,
            Self::Errno(_) => 3,
            Self::Trace(_) => 4,
            Self::Log => 5,
            Self::Allow => 6,
        }
    }
}

/// A comparison of one argument, unsigned, all 64 bits of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    /// Equal.
    Eq(u64),
    /// Not equal.
    Ne(u64),
    /// Less.
    Lt(u64),
    /// Less or equal.
    Le(u64),
    /// Greater.
    Gt(u64),
    /// Greater or equal.
    Ge(u64),
    /// `argument & mask == value`. Mask `0xffff_ffff` where the kernel takes an
    /// `int`: it drops the high half, so a filter that looks at it is bypassed.
    MaskedEq {
        /// The bits that count.
        mask: u64,
        /// What they must be.
        value: u64,
    },
}

/// A condition on one argument of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// Which argument, 0 to 5.
    pub(super) argument: u8,
    /// What it is compared with.
    pub(super) comparison: Comparison,
}

/// When a rule counts at all: decided when the filter is made, not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct When {
    /// Capabilities that the container must all have.
    pub(super) with: u64,
    /// Capabilities of which the container must have none.
    pub(super) without: u64,
}

impl When {
    /// Whatever the container's capabilities are.
    pub(super) const ALWAYS: Self = Self { with: 0, without: 0 };

    /// Whether a rule for this case counts with these capabilities.
    pub(super) fn holds(self, capabilities: u64) -> bool {
        capabilities & self.with == self.with && capabilities & self.without == 0
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// The calls it is about.
    pub(super) calls: Cow<'static, [Call]>,
    /// All must hold.
    pub(super) conditions: Cow<'static, [Condition]>,
    /// Then this.
    pub(super) action: Action,
    /// With which capabilities.
    pub(super) when: When,
}

impl Rule {
    /// A rule of a constant table.
    pub(super) const fn new(
        calls: &'static [Call],
        conditions: &'static [Condition],
        action: Action,
        when: When,
    ) -> Self {
        Self { calls: Cow::Borrowed(calls), conditions: Cow::Borrowed(conditions), action, when }
    }
}

/// A whole policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Profile {
    /// For calls that no rule decides.
    pub(super) default: Action,
    /// For calls that are not known.
    pub(super) unknown: Action,
    /// For calls of another architecture.
    pub(super) foreign: Action,
    /// Numbers above this one are not known, even if the table has them: the
    /// profile was written before they existed.
    pub(super) newest: u16,
    /// The rules.
    pub(super) rules: Cow<'static, [Rule]>,
}
