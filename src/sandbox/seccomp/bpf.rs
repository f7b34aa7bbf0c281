//! From a profile to classic BPF instructions.
//!
//! The kernel runs a new filter once for every system call number, to cache
//! which are always allowed, so a filter is made as a binary tree over runs of
//! numbers with the same decision: about eight comparisons a call instead of
//! hundreds, and an install that takes a tenth of the time.
//!
//! ```text
//! load arch      != ours -> foreign
//! load number
//! number >= 232 ?  -> number >= 335 ? ...
//!                  -> number >= 101 ? ... -> return
//!                                         -> load argument, compare -> return
//! ```
//!
//! Jumps only go forward and reach 255 instructions, so the program is written
//! from its end: every target exists before the jump to it, and one that is too
//! far gets a stand-in close by (its copy, if it is a return).

use super::profile::{Action, Architecture, Comparison, Condition, Profile, Rule};
use super::table;
use crate::kernel::seccomp::Instruction;
use crate::limits::FILTER_INSTRUCTIONS_MAX;

// Operations, linux/bpf_common.h.
pub(super) const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
pub(super) const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
pub(super) const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
pub(super) const JUMP_EQ: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
pub(super) const JUMP_GT: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
pub(super) const JUMP_GE: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
pub(super) const RETURN: u16 = 0x06; // BPF_RET | BPF_K

// Offsets in struct seccomp_data, linux/seccomp.h.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// A jump's reach, less the two stand-ins that may be written before it.
const REACH: usize = 253;

/// The filter has more than `FILTER_INSTRUCTIONS_MAX` instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

/// Makes the filter for a container with these capabilities.
pub(super) fn assemble(
    profile: &Profile,
    architecture: Architecture,
    capabilities: u64,
) -> Result<Vec<Instruction>, TooLong> {
    let decisions = Decisions::of(profile, architecture, capabilities);
    let mut program = Program::default();
    let entry = program.tree(&decisions.runs(profile.unknown), &decisions.chains);
    let number = program.load_before(NUMBER, entry);
    let foreign = program.ret(profile.foreign);
    let check = program.branch(JUMP_EQ, architecture.audit(), number, foreign);
    program.load_before(ARCHITECTURE, check);
    if program.reversed.len() > FILTER_INSTRUCTIONS_MAX {
        return Err(TooLong);
    }
    program.reversed.reverse();
    Ok(program.reversed)
}

/// What is decided for one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// The same whatever the arguments are.
    Always(Action),
    /// Depends on the arguments: an index in `Decisions::chains`.
    Chain(usize),
}

/// Rules to be tried in order, strictest first.
struct Chain<'a> {
    rules: Vec<&'a Rule>,
    otherwise: Action,
}

struct Decisions<'a> {
    of_number: [Decision; table::NUMBERS_END],
    chains: Vec<Chain<'a>>,
}

impl<'a> Decisions<'a> {
    fn of(profile: &'a Profile, architecture: Architecture, capabilities: u64) -> Self {
        let mut decisions =
            Self { of_number: [Decision::Always(profile.unknown); table::NUMBERS_END], chains: Vec::new() };
        for number in table::known(architecture).filter(|number| *number <= profile.newest) {
            decisions.decide(number, Decision::Always(profile.default));
        }
        let mut named = Vec::with_capacity(table::NUMBERS_END);
        for (index, rule) in profile.rules.iter().enumerate().filter(|(_, rule)| rule.when.holds(capabilities)) {
            let numbers = rule.calls.iter().filter_map(|call| call.number(architecture));
            let numbers = numbers.filter(|number| *number <= profile.newest);
            named.extend(numbers.map(|number| (number, rule.action.leniency(), index)));
        }
        named.sort_unstable();
        for group in named.chunk_by(|a, b| a.0 == b.0) {
            let Some((number, ..)) = group.first() else { continue };
            let rules = group.iter().filter_map(|(.., index)| profile.rules.get(*index));
            let decision = decisions.combine(rules, profile.default);
            decisions.decide(*number, decision);
        }
        decisions
    }

    fn decide(&mut self, number: u16, decision: Decision) {
        if let Some(slot) = self.of_number.get_mut(usize::from(number)) {
            *slot = decision;
        }
    }

    /// A rule without conditions ends the chain: what is behind it is more lenient.
    fn combine(&mut self, rules: impl Iterator<Item = &'a Rule>, default: Action) -> Decision {
        let mut conditional = Vec::new();
        let mut otherwise = default;
        for rule in rules {
            if rule.conditions.is_empty() {
                otherwise = rule.action;
                break;
            }
            conditional.push(rule);
        }
        if conditional.is_empty() {
            return Decision::Always(otherwise);
        }
        self.chains.push(Chain { rules: conditional, otherwise });
        Decision::Chain(self.chains.len() - 1)
    }

    /// Runs of numbers with the same decision, each by its first number; the
    /// last one reaches to the end of the numbers and is always unknown, which
    /// covers x32 calls (x86_64 numbers with bit 30 set) too.
    fn runs(&self, unknown: Action) -> Vec<(u32, Decision)> {
        let mut runs: Vec<(u32, Decision)> = Vec::with_capacity(256);
        for (number, decision) in (0..).zip(self.of_number.iter().chain([&Decision::Always(unknown)])) {
            if runs.last().is_none_or(|(_, last)| last != decision) {
                runs.push((number, *decision));
            }
        }
        runs
    }
}

/// Where an instruction is, counted from the program's end.
type Label = usize;

#[derive(Default)]
struct Program {
    /// The instructions, last first.
    reversed: Vec<Instruction>,
    /// The latest return of each value.
    returns: Vec<(u32, Label)>,
}

impl Program {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        // Past the limit nothing counts any more: `assemble` refuses it.
        if self.reversed.len() <= FILTER_INSTRUCTIONS_MAX {
            self.reversed.push(Instruction { code, jt, jf, k });
        }
        self.reversed.len() - 1
    }

    /// How many instructions the next one would skip to get to `label`.
    fn distance(&self, label: Label) -> usize {
        (self.reversed.len() - 1).saturating_sub(label)
    }

    fn ret(&mut self, action: Action) -> Label {
        let value = action.value();
        match self.returns.iter().find(|(known, _)| *known == value) {
            Some((_, label)) => *label,
            None => self.new_ret(value),
        }
    }

    fn new_ret(&mut self, value: u32) -> Label {
        let label = self.push(RETURN, 0, 0, value);
        self.returns.retain(|(known, _)| *known != value);
        self.returns.push((value, label));
        label
    }

    /// `label`, or a stand-in for it that the next instruction can reach.
    fn near(&mut self, label: Label) -> Label {
        if self.distance(label) <= REACH {
            return label;
        }
        match self.reversed.get(label) {
            Some(target) if target.code == RETURN => {
                let value = target.k;
                match self.returns.iter().find(|(known, _)| *known == value) {
                    Some((_, latest)) if self.distance(*latest) <= REACH => *latest,
                    _ => self.new_ret(value),
                }
            }
            _ => self.push(JUMP, 0, 0, self.distance(label) as u32),
        }
    }

    /// Compares the accumulator with `k`, then goes to one of two places.
    fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        let yes = self.near(yes);
        let no = self.near(no);
        // `near` keeps both below 256 but past the limit, where the program is refused.
        let offset = |label| self.distance(label).min(255) as u8;
        self.push(code, offset(yes), offset(no), k)
    }

    /// Loads a word, then goes on at `next`.
    fn load_before(&mut self, offset: u32, next: Label) -> Label {
        self.fall_to(next);
        self.push(LOAD, 0, 0, offset)
    }

    /// Makes sure that the next instruction written is followed by `next`.
    fn fall_to(&mut self, next: Label) {
        if self.distance(next) > 0 {
            self.push(JUMP, 0, 0, self.distance(next) as u32);
        }
    }

    /// A binary search over `runs`, of which there is always one.
    fn tree(&mut self, runs: &[(u32, Decision)], chains: &[Chain<'_>]) -> Label {
        let (low, high) = runs.split_at(runs.len() / 2);
        match (low, high) {
            ([], [(_, Decision::Always(action)), ..]) => self.ret(*action),
            ([], [(_, Decision::Chain(index)), ..]) => match chains.get(*index) {
                Some(chain) => self.chain(chain),
                None => unreachable!("every chain's index was made with it"),
            },
            (_, [(first, _), ..]) => {
                let above = self.tree(high, chains);
                let below = self.tree(low, chains);
                self.branch(JUMP_GE, *first, above, below)
            }
            (_, []) => unreachable!("the upper half of a slice is not the smaller one, and runs are never empty"),
        }
    }

    fn chain(&mut self, chain: &Chain<'_>) -> Label {
        let mut next = self.ret(chain.otherwise);
        for rule in chain.rules.iter().rev() {
            let mut matched = self.ret(rule.action);
            for condition in rule.conditions.iter().rev() {
                matched = self.condition(*condition, matched, next);
            }
            next = matched;
        }
        next
    }

    fn condition(&mut self, condition: Condition, yes: Label, no: Label) -> Label {
        let low = ARGUMENTS + 8 * u32::from(condition.argument);
        match condition.comparison {
            Comparison::Eq(value) => self.masked(low, u64::MAX, value, yes, no),
            Comparison::Ne(value) => self.masked(low, u64::MAX, value, no, yes),
            Comparison::MaskedEq { mask, value } => self.masked(low, mask, value, yes, no),
            Comparison::Gt(value) => self.ordered(low, JUMP_GT, value, yes, no),
            Comparison::Ge(value) => self.ordered(low, JUMP_GE, value, yes, no),
            Comparison::Le(value) => self.ordered(low, JUMP_GT, value, no, yes),
            Comparison::Lt(value) => self.ordered(low, JUMP_GE, value, no, yes),
        }
    }

    /// `argument & mask == value`, half by half; a half without mask bits is
    /// not looked at.
    fn masked(&mut self, low: u32, mask: u64, value: u64, yes: Label, no: Label) -> Label {
        if value & !mask != 0 {
            return no;
        }
        let mut next = yes;
        for (offset, shift) in [(low, 0), (low + 4, 32)] {
            let (mask, value) = ((mask >> shift) as u32, (value >> shift) as u32);
            if mask == 0 {
                continue;
            }
            self.branch(JUMP_EQ, value, next, no);
            if mask != u32::MAX {
                self.push(AND, 0, 0, mask);
            }
            next = self.push(LOAD, 0, 0, offset);
        }
        next
    }

    /// `argument > value` or `>=`: the high half decides unless it is equal.
    fn ordered(&mut self, low: u32, code: u16, value: u64, yes: Label, no: Label) -> Label {
        let (high_value, low_value) = ((value >> 32) as u32, value as u32);
        self.branch(code, low_value, yes, no);
        let low_half = self.push(LOAD, 0, 0, low);
        let equal = self.branch(JUMP_EQ, high_value, low_half, no);
        self.branch(JUMP_GT, high_value, yes, equal);
        self.push(LOAD, 0, 0, low + 4)
    }
}
