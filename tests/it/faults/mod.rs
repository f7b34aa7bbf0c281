//! A container's whole life with kills at any place: random commands, and a
//! small model ([`model`]) that says what may be found after each.
//!
//! `KELP_FAULTS_SEEDS=N` tries N seeds instead of the few of every day, from
//! `KELP_FAULTS_FIRST` on.

mod alone;
mod held;
mod model;

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kelp::container::control::{self, ToSupervisor};
use kelp::container::record::{Record, Status};
use kelp::paths::Paths;
use kelp::process::identity::Identity;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use self::model::{Container, Model, Name, Program, Random, State, Step, Wish, without_payload, without_supervisor};
use super::harness::{Call, Home, Output, PATIENCE, eventually, is_running};

const NAMES: [Name; 3] = ["one", "two", "three"];
const POLICIES: [&str; 4] = ["no", "always", "unless-stopped", "on-failure:2"];
const STEPS: usize = 40;

/// Where a process of kelp may be killed on the way (src/failpoint.rs).
fn places(step: &Step) -> Vec<&'static str> {
    const MADE: &[&str] = &["create: staged", "create: in place", "create: named"];
    const LAUNCHED: &[&str] = &["run: supervisor launched", "run: planned"];
    const STARTED: &[&str] = &[
        "start: handed over",
        "supervisor: told to start",
        "supervisor: listening",
        "supervisor: program runs",
        "supervisor: start written down",
    ];
    const ENDED: &[&str] = &[
        "end: program gone",
        "end: container removed",
        "end: written down",
        "end: lock released",
        "volumes: one to go",
        "remove: in the trash",
    ];
    const REMOVED: &[&str] =
        &["remove: volumes kept", "remove: runtime files gone", "remove: in the trash", "volumes: one to go"];
    const REPAIRED: &[&str] =
        &["repair: end written down", "repair: volumes removed", "remove: in the trash", "volumes: one to go"];
    match step {
        Step::Create(..) => MADE.to_vec(),
        Step::Detached(..) => [MADE, LAUNCHED, STARTED].concat(),
        Step::Foreground(..) => [MADE, LAUNCHED, STARTED, ENDED].concat(),
        Step::Start(_) => STARTED.to_vec(),
        Step::Stop(_) | Step::Kill(_) => ENDED.to_vec(),
        Step::Restart(_) => [ENDED, STARTED].concat(),
        Step::Rename(..) => vec!["rename: link made", "rename: record saved"],
        Step::Remove(_) | Step::Prune => REMOVED.to_vec(),
        Step::RemoveForced(_) => [ENDED, REMOVED].concat(),
        Step::List | Step::Update(..) | Step::Wait(_) | Step::Exec(_) | Step::Pause(_) | Step::Unpause(_) => {
            REPAIRED.to_vec()
        }
    }
}

/// What is killed during a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// The command, after so many microseconds.
    Command(u64),
    /// Whoever gets there first.
    At(&'static str),
    /// The container's supervisor, after so many microseconds; and perhaps
    /// whoever repairs what it left.
    Supervisor(u64, Option<&'static str>),
    /// Its program.
    Payload(u64),
}

/// One run of one seed.
struct Life {
    home: Home,
    paths: Paths,
    random: Random,
    model: Model,
    history: Vec<String>,
    has_pruned: bool,
    /// On the command line of every program of this home.
    mark: String,
}

impl Life {
    fn new(seed: u64) -> Self {
        let home = Home::new();
        let paths = Paths::new(home.data(), home.run_dir());
        let mark = format!("{}", home.path("").display());
        Self { home, paths, random: Random(seed), model: Model::new(), history: Vec::new(), has_pruned: false, mark }
    }

    #[track_caller]
    fn check(&self, holds: bool, what: &str) {
        assert!(holds, "{what}\nmodel: {:#?}\nhistory:\n{}", self.model, self.history.join("\n"));
    }

    fn wish(&mut self) -> Wish {
        let program = if self.random.once_in(4) { Program::Short } else { Program::Long };
        let auto_remove = self.random.once_in(3);
        let policy = if auto_remove || program == Program::Short { "no" } else { self.random.pick(&POLICIES) };
        Wish { program, auto_remove, policy, volume: self.random.once_in(3) }
    }

    fn step(&mut self) -> Step {
        let name = self.random.pick(&NAMES);
        // Mostly what makes sense.
        let Some(container) = self.model.get(name) else {
            let wish = self.wish();
            return match self.random.below(8) {
                0 | 1 => Step::Create(name, wish),
                2..=5 => Step::Detached(name, wish),
                6 => Step::Foreground(name, Wish { program: Program::Short, policy: "no", ..wish }),
                _ => self.random.pick(&[
                    Step::Start(name),
                    Step::Remove(name),
                    Step::RemoveForced(name),
                    Step::Kill(name),
                    Step::List,
                ]),
            };
        };
        let container = container.clone();
        let other = self.random.pick(&NAMES);
        let can_update = !container.wish.auto_remove && container.wish.program == Program::Long;
        match self.random.below(26) {
            0 | 1 if !container.state.is_live() => Step::Wait(name),
            0..=3 => Step::Start(name),
            4..=6 => Step::Stop(name),
            7..=9 => Step::Restart(name),
            10 | 11 => Step::Kill(name),
            12 | 13 => Step::Pause(name),
            14 | 15 => Step::Unpause(name),
            16 | 17 if other != name => Step::Rename(name, other),
            18 | 19 if can_update => Step::Update(name, self.random.pick(&POLICIES)),
            20 => Step::Exec(name),
            21 | 22 => Step::Remove(name),
            23 => Step::RemoveForced(name),
            24 => Step::Prune,
            _ => Step::Detached(name, self.wish()),
        }
    }

    fn fault(&mut self, step: &Step) -> Fault {
        let is_live = step.name().and_then(|name| self.model.get(name)).is_some_and(|found| found.state.is_live());
        match self.random.below(10) {
            0..=2 => Fault::None,
            3..=5 => Fault::Command(self.random.below(40_000)),
            8 if is_live => {
                let repairer = self.random.pick(&places(&Step::List));
                Fault::Supervisor(self.random.below(30_000), self.random.once_in(2).then_some(repairer))
            }
            9 if is_live => Fault::Payload(self.random.below(30_000)),
            _ => Fault::At(self.random.pick(&places(step))),
        }
    }

    fn call(&self, step: &Step) -> Call {
        let rootfs = self.home.rootfs();
        let make = |verb: &[&str], name: &str, wish: &Wish| {
            let mut call = self.home.kelp(verb);
            call.args(&["--name", name, "--restart", wish.policy]);
            call.args(if wish.auto_remove { &["--rm"] } else { &[] });
            call.args(if wish.volume { &["-v", "/data"] } else { &[] });
            call.args(&["--rootfs", rootfs.to_str().unwrap(), "/probe"]);
            call.args(if wish.program == Program::Short { &["exit", "3"] } else { &["forever"] });
            call.args(&[&self.mark]);
            call
        };
        match step {
            Step::Create(name, wish) => make(&["create"], name, wish),
            Step::Detached(name, wish) => make(&["run", "-d"], name, wish),
            Step::Foreground(name, wish) => make(&["run"], name, wish),
            Step::Start(name) => self.home.kelp(&["start", name]),
            Step::Stop(name) => self.home.kelp(&["stop", "-t", "0", name]),
            Step::Restart(name) => self.home.kelp(&["restart", "-t", "0", name]),
            Step::Kill(name) => self.home.kelp(&["kill", name]),
            Step::Pause(name) => self.home.kelp(&["pause", name]),
            Step::Unpause(name) => self.home.kelp(&["unpause", name]),
            Step::Rename(name, new) => self.home.kelp(&["rename", name, new]),
            Step::Update(name, policy) => self.home.kelp(&["update", "--restart", policy, name]),
            Step::Exec(name) => self.home.kelp(&["exec", name, "/probe", "exit", "5"]),
            Step::Remove(name) => self.home.kelp(&["rm", "-v", name]),
            Step::RemoveForced(name) => self.home.kelp(&["rm", "-f", "-v", name]),
            Step::Prune => self.home.kelp(&["container", "prune", "-f"]),
            Step::Wait(name) => self.home.kelp(&["wait", name]),
            Step::List => self.home.kelp(&["ps", "-a"]),
        }
    }

    /// One step: done, what may be found is found, and the model is that.
    fn go_on(&mut self) {
        let step = self.step();
        let fault = self.fault(&step);
        self.has_pruned |= step == Step::Prune;
        self.history.push(format!("{step:?} {fault:?}"));
        let outcome = step.outcome(&self.model);
        let mut legal = vec![outcome.after];
        if fault != Fault::None {
            legal.push(self.model.clone());
            legal.extend(outcome.partly);
        }
        let output = self.call_with(&step, fault);
        self.check(!output.stderr.contains("panicked") && output.code != 70, &output.stderr);
        match fault {
            Fault::None => {
                let is_right = match outcome.code {
                    Some(code) => i64::from(output.code) == code,
                    None => output.code == 1 || output.code == 125,
                };
                self.check(is_right, &format!("it ended with {}: {}", output.code, output.stderr));
            }
            Fault::Supervisor(..) | Fault::At(_) => legal.extend(without_supervisor(&legal)),
            Fault::Payload(_) => legal.extend(without_payload(&legal)),
            Fault::Command(_) => {}
        }
        self.settle();
        self.look(&legal);
    }

    fn call_with(&self, step: &Step, fault: Fault) -> Output {
        let record = step.name().and_then(|name| self.record(name));
        if let Fault::At(place) = fault {
            self.arm(place);
        }
        let mut running = self.call(step).start();
        let wait = |microseconds| std::thread::sleep(Duration::from_micros(microseconds));
        match (fault, record.map(|record| record.status)) {
            (Fault::Command(microseconds), _) => {
                wait(microseconds);
                kill(Pid::from_raw(running.pid()), Signal::SIGKILL).unwrap();
            }
            (Fault::Supervisor(microseconds, repairer), Some(Status::Running { supervisor, .. })) => {
                wait(microseconds);
                kill_process(supervisor);
                if let Some(place) = repairer {
                    self.arm(place);
                    self.home.kelp(&["ps", "-a"]).output();
                }
            }
            (Fault::Payload(microseconds), Some(Status::Running { payload, .. })) => {
                wait(microseconds);
                kill_process(payload);
            }
            _ => {}
        }
        let output = running.wait();
        if fault != Fault::None {
            // Of a command that was killed, its supervisor may be on the way still.
            self.settle();
        }
        let is_left = fs::remove_file(self.failpoint()).is_ok();
        if let Fault::At(place) | Fault::Supervisor(_, Some(place)) = fault {
            println!("{} {place}", if is_left { "passed by" } else { "died at" });
        }
        output
    }

    fn failpoint(&self) -> PathBuf {
        self.paths.run.join("failpoint")
    }

    fn arm(&self, place: &str) {
        symlink(place, self.failpoint()).unwrap();
    }

    fn record(&self, name: &str) -> Option<Record> {
        let id = fs::read_link(self.paths.names().join(name)).ok()?;
        Record::load(&self.paths.containers().join(id)).ok()
    }

    /// Waits until nothing happens any more unless it is asked for.
    fn settle(&self) {
        let entries = || fs::read_dir(self.paths.containers()).into_iter().flatten().flatten();
        let start = Instant::now();
        for directory in entries().map(|entry| entry.path()) {
            while !self.is_settled(&directory) {
                let record = fs::read_to_string(directory.join("record.json"));
                self.check(start.elapsed() < PATIENCE, &format!("{} does not settle: {record:?}", directory.display()));
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    fn is_settled(&self, directory: &Path) -> bool {
        let Ok(lock) = File::open(directory.join("lock")) else { return true };
        if lock.try_lock_shared().is_ok() {
            return true;
        }
        let running = || match Record::load(directory) {
            Ok(Record { status: Status::Running { supervisor, payload, .. }, id, command, .. }) => {
                // One that ends by itself is on its way there.
                (!command.iter().any(|word| word == "exit")).then_some((supervisor, payload, id))
            }
            _ => None,
        };
        let Some(before) = running() else { return false };
        // What was sent before this has been read when it is answered.
        let Ok(Some(channel)) = control::connect(&self.paths, &before.2) else { return false };
        let answer = control::ask(&channel, &ToSupervisor::Signal(0));
        matches!(answer, Ok(Some(_))) && !is_ending(before.0) && !is_ending(before.1) && running() == Some(before)
    }

    /// What ps, inspect and the directories say is one of `legal`.
    fn look(&mut self, legal: &[Model]) {
        let rows = self.home.containers();
        let mut found = Model::new();
        for row in &rows {
            let text = |key: &str| row[key].as_str().unwrap_or_default();
            let Some(name) = NAMES.into_iter().find(|name| *name == text("name")) else {
                panic!("a name from nowhere: {row}");
            };
            let state = match (text("state"), row["paused"].as_bool()) {
                ("running", Some(true)) => State::Paused,
                ("running", _) => State::Running,
                ("created", _) => State::Created,
                ("exited", _) => State::Exited(row["code"].as_i64().unwrap()),
                _ => panic!("a state from nowhere: {row}"),
            };
            let known = legal.iter().filter_map(|model| model.get(name)).find(|container| {
                container.state == state
                    && policy_word(container.wish.policy) == text("restart_policy")
                    && (container.id.is_empty() || container.id == text("id"))
            });
            let Some(known) = known else {
                self.check(false, &format!("this may not be: {row}\nbut one of: {legal:#?}"));
                return;
            };
            self.check(!found.contains_key(name), "a name is doubled");
            found.insert(name, Container { id: text("id").to_owned(), ..known.clone() });
        }
        let is_as = |model: &&Model| {
            model.len() == found.len()
                && found.iter().all(|(name, container)| {
                    model.get(name).is_some_and(|other| {
                        other.state == container.state
                            && (other.id.is_empty() || other.id == container.id)
                            && policy_word(other.wish.policy) == policy_word(container.wish.policy)
                    })
                })
        };
        self.check(legal.iter().any(|model| is_as(&model)), &format!("found {found:#?}\nbut legal are {legal:#?}"));
        self.model = found;
        self.history.push(format!("    {:?}", self.states()));
        self.inspect();
        let mut names = self.home.entries("names");
        names.sort();
        self.check(names.iter().eq(self.model.keys()), &format!("links of names are {names:?}"));
    }

    fn states(&self) -> Vec<(Name, State)> {
        self.model.iter().map(|(name, container)| (*name, container.state)).collect()
    }

    fn inspect(&self) {
        if self.model.is_empty() {
            return;
        }
        let mut call =
            self.home.kelp(&["inspect", "--format", "{{.Id}} {{.Name}} {{.State.Status}} {{.State.ExitCode}}"]);
        let said = call.args(&self.model.keys().copied().collect::<Vec<_>>()).succeed();
        let expected: String = self
            .model
            .iter()
            .map(|(name, container)| {
                let (word, code) = match container.state {
                    State::Created => ("created", 0),
                    State::Running => ("running", 0),
                    State::Paused => ("paused", 0),
                    State::Exited(code) => ("exited", code),
                };
                format!("{} {name} {word} {code}\n", container.id)
            })
            .collect();
        self.check(said.replace(" /", " ") == expected, &format!("inspect says {said}, not {expected}"));
    }

    /// After all were removed, nothing is there.
    fn finish(mut self) {
        let names: Vec<Name> = self.model.keys().copied().collect();
        if !names.is_empty() {
            self.home.kelp(&[&["rm", "-f", "-v"], &names[..]].concat()).succeed();
        }
        self.look(&[Model::new()]);
        if self.has_pruned {
            // As docker's, it leaves volumes.
            self.home.kelp(&["volume", "prune", "-f"]).succeed();
        }
        // What was killed before it was anything is kept for a minute.
        for path in self.entries("data/staging") {
            let old = fs::FileTimes::new().set_modified(std::time::SystemTime::now() - Duration::from_secs(3_600));
            File::open(path).unwrap().set_times(old).unwrap();
        }
        self.home.kelp(&["rm", "no-such-container"]).fail(1);
        let run = self.home.containers_run().display().to_string();
        // A path that is absolute is not below the home's.
        for place in ["data/containers", "data/names", "data/volumes", "data/staging", "data/trash", &run] {
            let is_empty = eventually(|| self.entries(place).is_empty());
            self.check(is_empty, &format!("{place} still holds {:?}", self.entries(place)));
        }
        let left = || processes().into_iter().filter(|(_, line)| line.contains(&self.mark)).collect::<Vec<_>>();
        self.check(eventually(|| left().is_empty()), &format!("processes are left: {:?}", left()));
        // Of kelp's own one may stay for a while.
        let own = || self.home.holders().into_iter().filter(|pid| is_running(*pid)).count();
        self.check(eventually(|| own() <= 1), "more than one supervisor is left");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        self.check(!mounts.contains(&self.mark), "something is mounted");
    }

    fn entries(&self, place: &str) -> Vec<PathBuf> {
        fs::read_dir(self.home.path(place)).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    }
}

fn policy_word(policy: &str) -> &str {
    policy.split(':').next().unwrap_or_default()
}

fn kill_process(identity: Identity) {
    if identity.is_current() {
        kill(Pid::from_raw(identity.pid), Signal::SIGKILL).ok();
        assert!(eventually(|| !identity.is_current() || !is_running(identity.pid)));
    }
}

/// Whether a process is gone or about to be: it was killed (bit 9 of SigPnd,
/// proc_pid_status(5)) or is exiting (PF_EXITING of field 9, proc_pid_stat(5)).
fn is_ending(identity: Identity) -> bool {
    let read = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", identity.pid)).unwrap_or_default();
    let status = read("status");
    let is_killed = |field: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(field)).map(str::trim);
        mask.and_then(|mask| u64::from_str_radix(mask, 16).ok()).is_none_or(|mask| mask & (1 << 8) != 0)
    };
    let stat = read("stat");
    let flags = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(6)?.parse::<u32>().ok());
    !identity.is_current() || is_killed("SigPnd:") || is_killed("ShdPnd:") || flags.is_none_or(|flags| flags & 4 != 0)
}

/// All processes that can be seen, with their arguments.
fn processes() -> Vec<(i32, String)> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let line = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
    pids.map(|pid: i32| (pid, line(pid))).collect()
}

fn live(seed: u64) {
    println!("seed {seed}");
    let mut life = Life::new(seed);
    life.home.run(&[], &["exit", "0"]).succeed();
    life.history.push(format!("seed {seed}"));
    for _ in 0..STEPS {
        life.go_on();
    }
    life.finish();
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn whatever_is_killed_containers_are_as_the_model_says() {
    const AT_ONCE: u64 = 3;
    let count = number("KELP_FAULTS_SEEDS").unwrap_or(6);
    let first = number("KELP_FAULTS_FIRST").unwrap_or(1);
    std::thread::scope(|scope| {
        for lane in 0..AT_ONCE {
            scope.spawn(move || (first..first + count).filter(|seed| seed % AT_ONCE == lane).for_each(live));
        }
    });
}
