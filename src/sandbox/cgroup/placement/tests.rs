//! Which rung is taken, from what the host is like.

use super::*;
use crate::host::cgroup::{self, UserSystemd};
use crate::sandbox::cgroup::limits::Bound;

fn names(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

const SLICE_OF_USER: &str = "/sys/fs/cgroup/user.slice/user-1000.slice";

/// A host with a systemd that has `controllers`, seen from the cgroup `own`.
fn host(own: &str, controllers: &str) -> Cgroup {
    Cgroup {
        version: CgroupVersion::V2,
        path: Some(own.into()),
        directory: Some(format!("/sys/fs/cgroup{own}").into()),
        manager: Some(UserSystemd {
            socket: "/run/user/1000/systemd/private".into(),
            directory: format!("{SLICE_OF_USER}/user@1000.service").into(),
            controllers: names(controllers),
            lacks: Vec::new(),
        }),
        ..Cgroup::default()
    }
}

fn session(controllers: &str) -> Cgroup {
    host("/user.slice/user-1000.slice/session-2.scope", controllers)
}

/// A delegated cgroup; `residents` are processes in it that are not kelp's.
fn delegated(directory: &str, controllers: &str, residents: &str) -> cgroup::Subtree {
    cgroup::Subtree {
        directory: directory.into(),
        controllers: names(controllers),
        enabled: Vec::new(),
        lacks: Vec::new(),
        has_kelp: true,
        others: names(residents),
    }
}

fn memory() -> Limits {
    Limits { memory_max: Some(Bound::At(1 << 20)), ..Limits::default() }
}

fn wish(limits: &Limits) -> Wish<'_> {
    Wish { cgroups: Cgroups::Usual, parent: None, limits, is_writable: false, is_kept: true }
}

fn rung(facts: &Cgroup, wish: &Wish<'_>) -> String {
    match decide(facts, wish) {
        Ok(Placement { scope, subtree, .. }) => {
            let scope = scope.map(|scope| scope.slice);
            let subtree = subtree.map(|subtree| subtree.directory.display().to_string());
            [scope, subtree].into_iter().flatten().collect::<Vec<_>>().join(", ")
        }
        Err(failure) => failure.sentence(),
    }
}

#[test]
fn what_systemd_does_not_know_no_admin_can_delegate() {
    for (file, hint) in [("hugetlb.2MB.max", "systemd gives no hugetlb to anybody"), ("io.max", "delegate.conf")] {
        let limits = Limits { conf: vec![(file.to_owned(), "0".to_owned())], ..Limits::default() };
        let hints = decide(&session("memory"), &wish(&limits)).unwrap_err().hints;
        assert!(hints[0].contains(hint), "{hints:?}");
    }
}

#[test]
fn a_controller_without_the_file_does_not_do() {
    let io = Limits { io_weight: Some(5), swap_max: Some(Bound::At(0)), swap_is_implied: true, ..Limits::default() };
    let mut facts = session("memory io");
    assert_eq!(rung(&facts, &wish(&io)), "kelp.slice");
    let lacks = names("io.weight memory.swap.max");
    facts.manager.as_mut().unwrap().lacks = lacks.clone();
    facts.subtrees = vec![cgroup::Subtree { lacks, ..delegated("/sys/fs/cgroup/alice", "memory io", "") }];
    let said = rung(&facts, &wish(&io));
    assert!(said.contains("there is no io.weight in /sys/fs/cgroup/alice: this kernel has no weights"), "{said}");
    // Swap that nobody spoke of may be missing.
    assert_eq!(rung(&facts, &wish(&Limits { io_weight: None, ..io })), "kelp.slice, /sys/fs/cgroup/alice");
}

#[test]
fn a_login_gets_scopes() {
    let (none, memory) = (Limits::default(), memory());
    assert_eq!(rung(&session("memory pids"), &wish(&none)), "kelp.slice");
    assert_eq!(rung(&session("memory pids"), &wish(&memory)), "kelp.slice");
    // One that is looked at until it ends, and has no limits, is not worth it.
    let watched = Wish { is_kept: false, ..wish(&none) };
    assert_eq!(rung(&session("memory pids"), &watched), "");
    for worth in [
        Wish { limits: &memory, ..watched },
        Wish { cgroups: Cgroups::Enabled, ..watched },
        Wish { is_writable: true, ..watched },
    ] {
        assert_eq!(rung(&session("memory pids"), &worth), "kelp.slice");
    }
    // Also from what the user's own systemd has started.
    let terminal = host("/user.slice/user-1000.slice/user@1000.service/app.slice/terminal.scope", "memory");
    assert_eq!(rung(&terminal, &wish(&memory)), "kelp.slice");
}

#[test]
fn what_was_made_for_a_purpose_is_not_left() {
    let (none, memory) = (Limits::default(), memory());
    let job = host("/system.slice/slurmstepd.scope/job_7/step_0", "memory");
    assert_eq!(rung(&job, &wish(&none)), "");
    assert!(rung(&job, &wish(&memory)).contains("it would leave /system.slice/slurmstepd.scope/job_7/step_0"));
    // Another user's slice is none of ours.
    assert_eq!(rung(&host("/user.slice/user-10000.slice/session-1.scope", "memory"), &wish(&none)), "");
    for service in ["/system.slice/cron.service", "/"] {
        assert_eq!(rung(&host(service, "memory"), &wish(&none)), "", "{service}");
        assert_eq!(rung(&host(service, "memory"), &wish(&memory)), "kelp.slice", "{service}");
    }
}

#[test]
fn a_marked_cgroup_comes_before_a_scope() {
    let (none, memory) = (Limits::default(), memory());
    let own = "/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.scope";
    let directory = format!("/sys/fs/cgroup{own}");
    let mut facts = host(own, "memory");
    facts.subtrees = vec![delegated(&directory, "memory", "")];
    assert_eq!(rung(&facts, &wish(&memory)), format!("kelp.slice, {directory}"));
    facts.is_marked = true;
    assert_eq!(rung(&facts, &wish(&memory)), directory);
    assert_eq!(rung(&facts, &Wish { is_kept: false, ..wish(&none) }), directory);
    // A shell in it: no controllers, so what has a limit goes elsewhere.
    facts.subtrees = vec![delegated(&directory, "memory", "7-(bash)")];
    assert_eq!(rung(&facts, &wish(&none)), directory);
    assert_eq!(rung(&facts, &wish(&memory)), "kelp.slice");
}

#[test]
fn without_systemd_the_nearest_subtree_that_will_do() {
    let (none, memory) = (Limits::default(), memory());
    let mut facts = Cgroup { manager: None, ..host("/alice/shell", "") };
    facts.subtrees = vec![
        delegated("/sys/fs/cgroup/alice/shell", "memory", "7-(bash)"),
        delegated("/sys/fs/cgroup/alice", "memory", ""),
    ];
    assert_eq!(rung(&facts, &wish(&none)), "/sys/fs/cgroup/alice/shell");
    assert_eq!(rung(&facts, &wish(&memory)), "/sys/fs/cgroup/alice");
    facts.subtrees.truncate(1);
    let refused = decide(&facts, &wish(&memory)).unwrap_err();
    assert_eq!(
        refused.sentence(),
        "--memory cannot hold: as a scope of systemd: no systemd of yours runs here, or its socket is not in the \
         runtime directory; in a delegated cgroup: in /sys/fs/cgroup/alice/shell are processes other than kelp's, \
         7-(bash), with which the kernel enables no controllers there"
    );
    assert!(refused.hints[0].contains("mkdir /sys/fs/cgroup/alice/shell/shell"), "{:?}", refused.hints);
    facts.subtrees[0].enabled = names("memory");
    assert_eq!(rung(&facts, &wish(&memory)), "/sys/fs/cgroup/alice/shell");
}

#[test]
fn kelp_moves_only_for_controllers_that_are_not_there_yet() {
    let limits = Limits::default();
    let mut facts = Cgroup { manager: None, ..host("/alice", "") };
    let moves = |facts: &Cgroup| decide(facts, &wish(&limits)).unwrap().subtree.unwrap().moves_kelp;
    facts.subtrees = vec![delegated("/sys/fs/cgroup/alice", "memory", "")];
    assert!(moves(&facts));
    facts.subtrees[0].enabled = names("memory");
    assert!(!moves(&facts));
    facts.subtrees = vec![delegated("/sys/fs/cgroup/alice", "", "")];
    assert!(!moves(&facts));
    facts.subtrees = vec![delegated("/sys/fs/cgroup/alice", "memory", "7-(bash)")];
    assert!(!moves(&facts));
}

#[test]
fn a_limit_without_its_controller_is_refused_with_the_file_and_the_remedy() {
    let memory = memory();
    let refused = decide(&session("pids"), &wish(&memory)).unwrap_err();
    let sentence = refused.sentence();
    assert!(sentence.starts_with("--memory cannot hold: "), "{sentence}");
    assert!(
        sentence.contains(&format!("no memory in {SLICE_OF_USER}/user@1000.service/cgroup.controllers (\"pids\")")),
        "{sentence}"
    );
    assert!(refused.hints[0].contains("Delegate=cpu cpuset io memory pids"), "{:?}", refused.hints);
    let hybrid = Cgroup { version: CgroupVersion::Hybrid, ..session("") };
    let refused = decide(&hybrid, &wish(&memory)).unwrap_err();
    assert!(refused.hints[0].contains("hybrid") && refused.hints[1].contains("unified_cgroup_hierarchy=1"));
    let old = Cgroup { version: CgroupVersion::V1, ..Cgroup::default() };
    assert!(rung(&old, &wish(&memory)).contains("no cgroup v2 tree is mounted"));
    assert_eq!(rung(&old, &wish(&Limits::default())), "");
}

#[test]
fn disabled_is_disabled() {
    let (none, memory) = (Limits::default(), memory());
    let disabled = |limits| Wish { cgroups: Cgroups::Disabled, ..wish(limits) };
    assert_eq!(decide(&session("memory"), &disabled(&none)).unwrap(), Placement::default());
    let refused = decide(&session("memory"), &disabled(&memory)).unwrap_err();
    assert_eq!(refused.sentence(), "--memory needs a cgroup, and --cgroups disabled excludes one");
    assert!(decide(&session("memory"), &Wish { is_writable: true, ..disabled(&none) }).is_err());
}

#[test]
fn a_parent_is_where_it_is_made_or_nothing_is() {
    let none = Limits::default();
    let slice = Parent::Slice("batch.slice".to_owned());
    let wanted = Wish { parent: Some(&slice), is_kept: false, ..wish(&none) };
    assert_eq!(rung(&session("memory"), &wanted), "batch.slice");
    assert!(rung(&Cgroup { manager: None, ..session("memory") }, &wanted).contains("no systemd of yours"));
    let path = Parent::Path("/alice".into());
    let wanted = Wish { parent: Some(&path), ..wish(&none) };
    let mut facts = session("memory");
    assert!(rung(&facts, &wanted).contains("/alice is not there, or not delegated to you"));
    facts.subtrees = vec![delegated("/sys/fs/cgroup/alice", "memory", "")];
    assert_eq!(rung(&facts, &wanted), "/sys/fs/cgroup/alice");
    assert!(decide(&facts, &wanted).unwrap().is_required);
}

#[test]
fn documents_are_read_back() {
    let placement = decide(&session("memory"), &wish(&memory())).unwrap();
    let text = serde_json::to_string(&placement).unwrap();
    assert_eq!(serde_json::from_str::<Placement>(&text).unwrap(), placement);
    assert_eq!(serde_json::to_string(&Placement::default()).unwrap(), "{}");
}
