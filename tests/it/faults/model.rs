//! What kelp promises of a few containers, as a model small enough to be right.
//!
//! A [`Step`] has one outcome where nothing is killed, and several that are
//! legal where something is: a killed command has done all of it, nothing, or a
//! part that makes sense by itself.

use std::collections::BTreeMap;

/// Random numbers that come again with their seed (splitmix64).
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// One of these.
    pub fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize].clone()
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// What a container's program does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Runs until it is killed.
    Long,
    /// Ends with [`SHORT`] at once.
    Short,
}

/// What a short program ends with.
pub const SHORT: i64 = 3;
/// What is killed ends with.
pub const KILLED: i64 = 137;
/// What the program of an exec ends with.
pub const EXEC: i64 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Created,
    Running,
    Paused,
    Exited(i64),
}

impl State {
    pub fn is_live(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// A container as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    pub program: Program,
    pub auto_remove: bool,
    pub policy: &'static str,
    /// With a volume of its own.
    pub volume: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Empty until it was seen.
    pub id: String,
    pub state: State,
    pub wish: Wish,
}

impl Container {
    /// Its program has ended; nothing where that removes it.
    fn ended(&self, code: i64) -> Option<Self> {
        (!self.wish.auto_remove || self.state == State::Created)
            .then(|| Self { state: State::Exited(code), ..self.clone() })
    }

    fn started(&self) -> Option<Self> {
        let running = Self { state: State::Running, ..self.clone() };
        if self.wish.program == Program::Short { running.ended(SHORT) } else { Some(running) }
    }
}

/// All containers by name.
pub type Model = BTreeMap<&'static str, Container>;

pub type Name = &'static str;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Create(Name, Wish),
    Detached(Name, Wish),
    Foreground(Name, Wish),
    Start(Name),
    Stop(Name),
    Restart(Name),
    Kill(Name),
    Pause(Name),
    Unpause(Name),
    Rename(Name, Name),
    Update(Name, &'static str),
    Exec(Name),
    Remove(Name),
    RemoveForced(Name),
    Prune,
    Wait(Name),
    List,
}

/// What becomes of a step.
pub struct Outcome {
    /// The exit status; `None` where it is some failure.
    pub code: Option<i64>,
    /// The model where all of it was done.
    pub after: Model,
    /// What else may be found where its command was killed: parts.
    pub partly: Vec<Model>,
}

impl Step {
    /// The container that it is about.
    pub fn name(&self) -> Option<Name> {
        match self {
            Self::Create(name, _) | Self::Detached(name, _) | Self::Foreground(name, _) => Some(name),
            Self::Start(name) | Self::Stop(name) | Self::Restart(name) | Self::Kill(name) => Some(name),
            Self::Pause(name) | Self::Unpause(name) | Self::Rename(name, _) | Self::Update(name, _) => Some(name),
            Self::Exec(name) | Self::Remove(name) | Self::RemoveForced(name) | Self::Wait(name) => Some(name),
            Self::Prune | Self::List => None,
        }
    }

    pub fn outcome(&self, before: &Model) -> Outcome {
        let name = self.name().unwrap_or_default();
        let found = before.get(name);
        let state = found.map(|container| container.state);
        let with = |container: Option<Container>| {
            let mut model = before.clone();
            model.remove(name);
            model.extend(container.map(|container| (name, container)));
            model
        };
        let done = |after: Model| Outcome { code: Some(0), after, partly: Vec::new() };
        let refused = || Outcome { code: None, after: before.clone(), partly: Vec::new() };
        let in_state = |state: State| with(found.map(|container| Container { state, ..container.clone() }));
        let ended = || with(found.and_then(|container| container.ended(KILLED)));
        match (self, state) {
            (Self::Create(_, wish), None) => {
                done(with(Some(Container { id: String::new(), state: State::Created, wish: *wish })))
            }
            (Self::Detached(_, wish), None) => {
                done(with(Container { id: String::new(), state: State::Running, wish: *wish }.started()))
            }
            (Self::Foreground(_, wish), None) => {
                let made = Container { id: String::new(), state: State::Running, wish: *wish };
                let partly = vec![with(made.ended(KILLED))];
                Outcome { code: Some(SHORT), after: with(made.ended(SHORT)), partly }
            }
            (Self::List, _) => done(before.clone()),
            (Self::Prune, _) => prune(before),
            (Self::RemoveForced(_), None) => done(before.clone()),
            (_, None) | (Self::Create(..) | Self::Detached(..) | Self::Foreground(..), Some(_)) => refused(),
            (Self::Start(_), Some(State::Paused)) => refused(),
            (Self::Start(_), Some(State::Running)) => done(before.clone()),
            (Self::Start(_), Some(_)) => done(with(found.and_then(Container::started))),
            (Self::Stop(_), Some(state)) if !state.is_live() => done(before.clone()),
            (Self::Stop(_), Some(_)) => done(ended()),
            (Self::Restart(_), Some(state)) => {
                let partly = if state.is_live() { vec![ended()] } else { Vec::new() };
                Outcome { partly, ..done(with(found.and_then(Container::started))) }
            }
            (Self::Kill(_), Some(state)) if state.is_live() => done(ended()),
            (Self::Pause(_), Some(State::Running)) => done(in_state(State::Paused)),
            (Self::Unpause(_), Some(State::Paused)) => done(in_state(State::Running)),
            (Self::Kill(_) | Self::Pause(_) | Self::Unpause(_), Some(_)) => refused(),
            (Self::Rename(_, new), Some(_)) if before.contains_key(new) => refused(),
            (Self::Rename(_, new), Some(_)) => {
                let mut after = with(None);
                after.extend(found.map(|container| (*new, container.clone())));
                done(after)
            }
            (Self::Update(_, policy), Some(_)) => done(with(
                found.map(|container| Container { wish: Wish { policy, ..container.wish }, ..container.clone() }),
            )),
            (Self::Exec(_), Some(State::Running)) => Outcome { code: Some(EXEC), ..done(before.clone()) },
            (Self::Exec(_), Some(_)) => refused(),
            (Self::Remove(_), Some(state)) if state.is_live() => refused(),
            (Self::Remove(_), Some(_)) => done(with(None)),
            (Self::RemoveForced(_), Some(state)) => {
                let partly = if state.is_live() { vec![ended()] } else { Vec::new() };
                Outcome { partly, ..done(with(None)) }
            }
            (Self::Wait(_), Some(_)) => done(before.clone()),
        }
    }
}

/// Killed half-way, it has removed some of them.
fn prune(before: &Model) -> Outcome {
    let idle: Vec<Name> =
        before.iter().filter(|(_, container)| !container.state.is_live()).map(|(name, _)| *name).collect();
    let without = |choice: usize| {
        let is_gone = |name: &Name| idle.iter().position(|other| other == name).is_some_and(|at| choice >> at & 1 == 1);
        before.iter().filter(|(name, _)| !is_gone(name)).map(|(name, container)| (*name, container.clone())).collect()
    };
    let all = (1 << idle.len()) - 1;
    Outcome { code: Some(0), after: without(all), partly: (0..all).map(without).collect() }
}

/// What may be found of `models` where a container's supervisor was killed too.
pub fn without_supervisor(models: &[Model]) -> Vec<Model> {
    each_live(models, |container| vec![container.ended(KILLED)])
}

/// The same where its program was.
pub fn without_payload(models: &[Model]) -> Vec<Model> {
    each_live(models, |container| {
        // Its policy may have brought it back.
        let back = container.started().filter(|_| container.wish.policy != "no");
        [Some(container.ended(KILLED)), back.map(Some)].into_iter().flatten().collect()
    })
}

/// Every model with every one of its containers that was alive, or has just
/// ended by itself, made into each of what `make` says.
fn each_live(models: &[Model], make: impl Fn(&Container) -> Vec<Option<Container>>) -> Vec<Model> {
    let mut all = Vec::new();
    for model in models {
        for (name, container) in model {
            if !container.state.is_live() && container.wish.program == Program::Long {
                continue;
            }
            for made in make(container) {
                let mut model = model.clone();
                model.remove(name);
                model.extend(made.map(|made| (*name, made)));
                all.push(model);
            }
        }
    }
    all
}
