//! Volumes: what a new one gets of the image, who keeps it, who may remove it,
//! and how its files leave and come back.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::harness::image::{self, Entry, base_layer, layer};
use super::harness::{Call, Home, Running, eventually, is_running, kelp_binary};

/// A home with the image `box:1`, whose files are the probe's and `layers`.
fn home_with(layers: &[Vec<u8>], volumes: &[&str]) -> Home {
    let home = Home::new();
    load(&home, layers, volumes);
    home
}

fn load(home: &Home, layers: &[Vec<u8>], volumes: &[&str]) {
    let layout = home.make_dir("layout");
    let volumes: serde_json::Map<String, Value> = volumes.iter().map(|path| ((*path).to_owned(), json!({}))).collect();
    let layers: Vec<Vec<u8>> = std::iter::once(base_layer()).chain(layers.iter().cloned()).collect();
    image::write_layout(&layout, "box:1", &layers, &json!({"Entrypoint": ["/probe"], "Volumes": volumes}));
    home.kelp(&["load", "-q", "-i", layout.to_str().unwrap()]).succeed();
}

/// A directory `srv` with files of all kinds, and more of it in a second layer.
fn srv() -> Vec<Vec<u8>> {
    let lower = layer(&[
        Entry::Directory("srv", 0o2750, 1000),
        Entry::File("srv/page", 0o640, 1000, b"page"),
        Entry::File("srv/gone", 0o644, 0, b"gone"),
        Entry::File("srv/tool", 0o4755, 0, b"tool"),
        Entry::HardLink("srv/again", "srv/page"),
        Entry::Link("srv/link", "/etc/passwd"),
        Entry::Link("srv/dangling", "nowhere"),
        Entry::Fifo("srv/fifo"),
        Entry::Directory("srv/sub", 0o700, 0),
        Entry::File("srv/sub/deep", 0o600, 0, b"deep"),
    ]);
    let upper = layer(&[
        Entry::Directory("srv", 0o2750, 1000),
        Entry::File("srv/.wh.gone", 0, 0, b""),
        Entry::Directory("srv/sub", 0o711, 29),
        Entry::File("srv/sub/new", 0o644, 29, b"new"),
    ]);
    vec![lower, upper]
}

fn run<'a>(home: &Home, options: &[&'a str], words: &[&'a str]) -> Call {
    home.kelp(&[&["run"], options, &["box:1"], words].concat())
}

/// What the probe says in a container that is removed.
#[track_caller]
fn lines(home: &Home, options: &[&str], words: &[&str]) -> Vec<String> {
    run(home, &[&["--rm"], options].concat(), words).succeed().lines().map(str::to_owned).collect()
}

/// Names of volumes, as `volume ls -q` with these options says.
fn names(home: &Home, options: &[&str]) -> Vec<String> {
    let said = home.kelp(&[&["volume", "ls", "-q"], options].concat()).succeed();
    said.lines().map(str::to_owned).collect()
}

const ALL: &str = "again dangling fifo link page sub tool";

#[test]
fn a_new_volume_has_what_the_image_has() {
    let home = home_with(&srv(), &[]);
    let words = ["stat", "/srv", "+", "list", "/srv", "+", "list", "/srv/sub", "+", "stat", "/srv/page", "+", "stat"];
    let more = ["/srv/tool", "+", "link", "/srv/link", "+", "link", "/srv/dangling", "+", "stat", "/srv/sub", "+"];
    let rest = ["read", "/srv/sub/new", "+", "stat", "/srv/fifo", "+", "write", "/srv/mine", "x"];
    let words = [&words[..], &more, &rest].concat();
    let in_image = lines(&home, &[], &words[..words.len() - 4]);
    let said = lines(&home, &["-v", "web:/srv"], &words);
    let size = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    assert_eq!(size(&said[0]), "1000:1000 42750");
    assert_eq!(said[1], ALL);
    assert_eq!(said[2], "deep new");
    // All is as in the image, but that directories have other sizes.
    for (volume, image) in said.iter().zip(&in_image).skip(3) {
        assert_eq!(size(volume), size(image));
    }
    // What the container wrote stays, what it removed stays away, and no other image's files come.
    assert_eq!(said.last().unwrap(), "ok");
    let again = lines(&home, &["-v", "web:/etc"], &["remove", "/etc/page", "+", "list", "/etc"]);
    assert_eq!(again[1], "again dangling fifo link mine sub tool");
    assert_eq!(lines(&home, &["-v", "web:/srv"], &["read", "/srv/page"]), ["error: ENOENT"]);
    assert_eq!(lines(&home, &["-v", "web:/srv"], &["read", "/srv/mine", "+", "read", "/srv/again"]), ["x", "page"]);
}

#[test]
fn a_name_is_the_link_of_another_in_the_volume_too() {
    let home = home_with(&srv(), &[]);
    let said = lines(&home, &["-v", "web:/srv"], &["write", "/srv/page", "changed", "+", "read", "/srv/again"]);
    assert_eq!(said, ["ok", "changed"]);
}

#[test]
fn a_volume_stays_empty_if_asked_or_if_the_image_has_nothing() {
    let home = home_with(&srv(), &[]);
    for options in [&["-v", "one:/srv:nocopy"][..], &["--mount", "source=two,target=/srv,volume-nocopy"]] {
        assert_eq!(lines(&home, options, &["list", "/srv"]), [""], "{options:?}");
    }
    // It was used: what it is has been decided.
    assert_eq!(lines(&home, &["-v", "one:/srv:copy"], &["list", "/srv"]), [""]);
    let said = lines(&home, &["-v", "three:/none/deep"], &["list", "/none/deep", "+", "stat", "/none/deep"]);
    assert!(said[0].is_empty() && said[1].starts_with("0:0 40755 "), "{said:?}");
    assert_eq!(lines(&home, &["-v", "four:/srv", "-v", "four:/tmp/x"], &["list", "/tmp/x"]), [ALL]);
    assert_eq!(lines(&home, &["-v", "five:/srv:ro"], &["list", "/srv", "+", "write", "/srv/x", "x"])[0], ALL);
}

#[test]
fn a_volume_made_before_is_filled_by_its_first_container() {
    let home = home_with(&srv(), &[]);
    assert_eq!(home.kelp(&["volume", "create", "--label", "a=b", "web"]).succeed(), "web\n");
    assert_eq!(lines(&home, &["-v", "web:/srv"], &["list", "/srv"]), [ALL]);
    let labels = home.kelp(&["volume", "inspect", "-f", "{{json .Labels}}", "web"]).succeed();
    assert_eq!(labels, "{\"a\":\"b\"}\n");
    // Not what somebody has put there.
    home.kelp(&["volume", "create", "own"]).succeed();
    let place = home.kelp(&["volume", "inspect", "-f", "{{.Mountpoint}}", "own"]).succeed();
    std::fs::write(Path::new(place.trim_end()).join("file"), "mine").unwrap();
    assert_eq!(lines(&home, &["-v", "own:/srv"], &["list", "/srv"]), ["file"]);
    assert_eq!(home.entries("staging"), [""; 0]);
}

#[test]
fn containers_of_all_kinds_get_content() {
    let home = home_with(&srv(), &[]);
    let words = ["list", "/srv", "+", "stat", "/srv/page", "+", "write", "/srv/x", "x"];
    let check = |options: &[&str], owner: &str, written: &str| {
        let said = lines(&home, options, &words);
        assert_eq!(said[0], ALL, "{options:?}");
        assert!(said[1].starts_with(owner) && said[2] == written, "{options:?}: {said:?}");
    };
    check(&["-v", "a1:/srv", "--read-only"], "1000:1000 100640", "ok");
    check(&["-v", "a2:/srv", "--user", "web"], "1000:1000 100640", "ok");
    check(&["-v", "a3:/srv", "--userns", "nomap"], "1000:1000 100640", "ok");
    check(&["-v", "a4:/srv", "--userns", "keep-id:uid=1000,gid=1000", "-u", "0"], "1000:1000 100640", "ok");
    // Below another one.
    check(&["-v", "a5:/srv", "-v", "a6:/srv/sub"], "1000:1000 100640", "ok");
    assert_eq!(lines(&home, &["-v", "a6:/mnt"], &["list", "/mnt"]), ["deep new"]);
}

#[test]
fn with_one_id_all_files_are_ones_own() {
    let home = Home::new();
    let kelp = kelp_binary();
    // newuidmap has no rights then.
    let alone = |words: &[&str]| {
        let words = [&["--no-new-privs", kelp.to_str().unwrap()], words].concat();
        home.call(Path::new("/usr/bin/setpriv"), &words)
    };
    let layout = home.make_dir("layout");
    let layers = std::iter::once(base_layer()).chain(srv()).collect::<Vec<_>>();
    image::write_layout(&layout, "box:1", &layers, &json!({"Entrypoint": ["/probe"], "Volumes": {"/srv": {}}}));
    alone(&["load", "-q", "-i", layout.to_str().unwrap()]).succeed();
    for options in [&["-v", "web:/srv"][..], &[]] {
        let words = ["list", "/srv", "+", "stat", "/srv/page", "+", "write", "/srv/x", "x"];
        let said = alone(&[&["run", "--rm"], options, &["box:1"], &words].concat()).succeed();
        let said: Vec<&str> = said.lines().collect();
        assert_eq!((said[0], said[2]), (ALL, "ok"));
        assert!(said[1].starts_with("0:0 100640"), "{said:?}");
    }
    let tar = alone(&["volume", "export", "web"]).output();
    assert_eq!(tar.code, 0, "{}", tar.stderr);
    alone(&["volume", "create", "copy"]).succeed();
    alone(&["volume", "import", "copy", "-"]).input(tar.bytes.clone()).succeed();
    assert!(alone(&["volume", "export", "copy"]).output().bytes == tar.bytes);
}

#[test]
fn a_directory_as_root_file_system_fills_volumes_too() {
    let home = Home::new();
    std::fs::write(home.rootfs().join("data/file"), "x").unwrap();
    assert_eq!(home.lines(&["-v", "web:/data"], &["list", "/data"]), ["file"]);
    let mut root = home.kelp(&["run", "--rm", "--rootfs", "/", "-v", "etc:/etc", "/bin/ls", "-A", "/etc"]);
    assert_eq!(root.succeed(), "");
}

#[test]
fn links_in_the_image_lead_nowhere_but_into_the_image() {
    let home = Home::new();
    let outside = home.make_dir("outside");
    std::fs::write(outside.join("secret"), "x").unwrap();
    let up = format!("../../../../../../../..{}", outside.display());
    let entries = [
        Entry::Directory("real", 0o750, 1000),
        Entry::File("real/file", 0o644, 0, b"x"),
        Entry::Link("absolute", "/real"),
        Entry::Link("relative", "etc/../absolute/."),
        Entry::Link("chain", "./relative"),
        Entry::Link("above", "../../../real"),
        Entry::Link("outside", outside.to_str().unwrap()),
        Entry::Link("up", &up),
        Entry::Link("loop", "loop"),
        Entry::Link("to-proc", "/proc/self"),
        Entry::File("file", 0o644, 0, b"x"),
        Entry::Fifo("fifo"),
        Entry::Link("to-file", "file"),
        Entry::File(".wh..wh.plnk/x", 0o644, 0, b"x"),
    ];
    load(&home, &[layer(&entries)], &[]);
    for (number, target) in ["absolute", "relative", "chain", "above"].into_iter().enumerate() {
        let volume = format!("v{number}:/{target}");
        let said = lines(&home, &["-v", &volume], &["list", "/real", "+", "stat", "/real"]);
        assert_eq!((said[0].as_str(), said[1].starts_with("1000:1000 40750")), ("file", true), "{target}");
    }
    for (number, target) in ["outside", "up"].into_iter().enumerate() {
        let (volume, inside) = (format!("w{number}:/{target}"), format!("/{target}"));
        assert_eq!(lines(&home, &["-v", &volume], &["list", &inside]), [""], "{target}");
    }
    for (number, (target, why)) in [
        ("loop", "symbolic link"),
        ("to-proc", "into /proc"),
        ("file", "is a file"),
        ("fifo", "is a file"),
        ("to-file", "is a file"),
    ]
    .into_iter()
    .enumerate()
    {
        let volume = format!("x{number}:/{target}");
        run(&home, &["--rm", "-v", &volume], &["list", "/"]).refuse(125, &[target, why]);
    }
    assert_eq!(home.entries("staging"), [""; 0]);
}

#[test]
fn deep_and_long_paths_are_copied_or_refused() {
    let home = Home::new();
    let deep = vec!["d"; 300].join("/");
    let name = "n".repeat(250);
    let long = format!("long/{name}/{name}/{name}");
    let entries = [Entry::Directory(&deep, 0o755, 0), Entry::File(&long, 0o644, 0, b"x")];
    load(&home, &[layer(&entries)], &[]);
    let bottom = format!("/{deep}");
    assert_eq!(lines(&home, &["-v", "all:/d"], &["stat", &bottom])[0].split(' ').nth(1), Some("40755"));
    assert_eq!(lines(&home, &["-v", "long:/long"], &["read", &format!("/{long}")]), ["x"]);
    run(&home, &["--rm", "-v", &format!("deep:{bottom}")], &["list", "/"]).refuse(125, &["128 directories", "nocopy"]);
    assert_eq!(home.entries("volumes").len(), 2);
}

#[test]
fn ten_thousand_names_are_copied() {
    // Most are links: disks take their time to delete files.
    let files: Vec<String> = (0..10_000).map(|number| format!("many/{}/file-{number}", number % 50)).collect();
    let (first, others) = files.split_at(1_000);
    let mut entries: Vec<Entry<'_>> = first.iter().map(|name| Entry::File(name, 0o644, 1000, b"x")).collect();
    entries.extend(others.iter().zip(first.iter().cycle()).map(|(name, file)| Entry::HardLink(name, file)));
    let home = home_with(&[layer(&entries)], &[]);
    let said = lines(&home, &["-v", "many:/many"], &["list", "/many/49", "+", "stat", "/many/0/file-9950"]);
    assert_eq!(said[0].split(' ').count(), 200);
    assert!(said[1].starts_with("1000:1000 100644 1 "), "{said:?}");
}

#[test]
fn many_that_start_at_once_have_the_same_volume() {
    let home = home_with(&srv(), &[]);
    home.kelp(&["volume", "create", "made"]).succeed();
    for volume in ["made", "fresh"] {
        let options = format!("{volume}:/srv");
        let start = |number: usize| {
            let file = format!("/srv/of-{number}");
            let words = ["read", "/srv/sub/deep", "+", "write", &file, "x"];
            match number % 4 {
                // One that wants nothing of the image may be the first.
                0 => run(&home, &["--rm", "-v", &format!("{options}:nocopy")], &words[3..]).start(),
                _ => run(&home, &["--rm", "-v", &options], &words).start(),
            }
        };
        let mut all: Vec<Running> = (0..12).map(start).collect();
        let said: Vec<(i32, String)> = all.iter_mut().map(Running::wait).map(|end| (end.code, end.stdout)).collect();
        assert!(said.iter().all(|(code, said)| *code == 0 && said.ends_with("ok\n")), "{said:?}");
        // Either all of them saw the image's files, or none.
        let read: Vec<&str> = said.iter().filter_map(|(_, said)| said.strip_suffix("ok\n")).collect();
        let with_content = read.iter().filter(|text| text.contains("deep")).count();
        assert!(with_content == 9 || with_content == 0, "{said:?}");
        let there = lines(&home, &["-v", &options], &["list", "/srv"]);
        assert_eq!(there[0].matches("of-").count(), 12, "{there:?}");
    }
}

#[test]
fn a_copy_that_is_killed_is_made_again() {
    let content = vec![b'x'; 128 << 10];
    let files: Vec<String> = (100..300).map(|number| format!("many/file-{number}")).collect();
    let entries: Vec<Entry<'_>> = files.iter().map(|name| Entry::File(name, 0o644, 1000, &content)).collect();
    let home = home_with(&[layer(&entries)], &[]);
    let check = |volume: &str| {
        let words = ["list", "/many", "+", "stat", "/many/file-299"];
        let said = lines(&home, &["-v", &format!("{volume}:/many")], &words);
        assert_eq!(said[0].split(' ').count(), 200, "{volume}");
        assert_eq!(said[1], "1000:1000 100644 131072 bytes", "{volume}");
    };
    // The layers are unpacked by now, and all that takes time is the copy.
    home.kelp(&["volume", "create", "made"]).succeed();
    for volume in ["made", "fresh"] {
        for milliseconds in [0, 5, 20, 60] {
            let mut running = run(&home, &["--rm", "-v", &format!("{volume}:/many")], &["exit", "0"]).start();
            // Or it is over, once an earlier round has come to its end.
            let pid = running.pid();
            assert!(eventually(|| !home.entries("staging").is_empty() || !is_running(pid)));
            std::thread::sleep(Duration::from_millis(milliseconds));
            running.signal(Signal::SIGKILL);
            running.wait();
        }
        check(volume);
    }
    // The stage at work, too.
    let mut running = run(&home, &["--rm", "-v", "other:/many"], &["exit", "0"]).start();
    assert!(eventually(|| !home.entries("staging").is_empty()));
    for pid in home.holders() {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).ok();
    }
    running.wait();
    check("other");
    assert_eq!(home.containers(), [Value::Null; 0]);
    assert_eq!(names(&home, &[]).len(), 3);
}

#[test]
fn volumes_of_an_image_belong_to_the_container() {
    let home = home_with(&srv(), &["/srv", "/var/new/", "/var/new"]);
    let words = ["list", "/srv", "+", "stat", "/var/new", "+", "write", "/srv/x", "x"];
    let said = run(&home, &["--name", "web"], &words).succeed();
    assert!(said.starts_with(&format!("{ALL}\n0:0 40755 ")) && said.ends_with("ok\n"), "{said}");
    let own = names(&home, &[]);
    assert_eq!(own.len(), 2);
    assert_eq!(names(&home, &["-f", "dangling=true"]), [""; 0]);
    home.kelp(&["volume", "rm", &own[0]]).refuse(1, &["in use by container web ("]);
    assert_eq!(home.kelp(&["volume", "prune", "-f"]).succeed(), "Total reclaimed space: 0B\n");
    // As with docker, they outlive it.
    home.kelp(&["rm", "web"]).succeed();
    home.kelp(&["ps"]).succeed();
    assert_eq!(names(&home, &["-f", "dangling=true", "-f", "label=com.docker.volume.anonymous"]), own);
    let said = home.kelp(&["volume", "prune", "-f"]).succeed();
    assert!(said.starts_with("Deleted Volumes:\n") && own.iter().all(|name| said.contains(name)), "{said}");
    assert!(said.ends_with("\nTotal reclaimed space: 16B\n"), "{said}");
    // Unless they are told to go.
    run(&home, &["--name", "web"], &["exit", "0"]).succeed();
    assert_eq!(names(&home, &[]).len(), 2);
    home.kelp(&["rm", "-v", "web"]).succeed();
    assert_eq!(home.entries("volumes"), [""; 0]);
    assert_eq!(lines(&home, &[], &["list", "/srv"]), [ALL]);
    assert_eq!(home.entries("volumes"), [""; 0]);
    assert!(eventually(|| home.entries("trash").is_empty()));
}

#[test]
fn what_the_user_mounts_goes_before_the_image() {
    let home = home_with(&srv(), &["/srv"]);
    let shared = home.make_dir("shared");
    std::fs::write(shared.join("host"), "x").unwrap();
    let bind = format!("{}:/srv", shared.display());
    assert_eq!(lines(&home, &["-v", &bind], &["list", "/srv"]), ["host"]);
    assert_eq!(lines(&home, &["--tmpfs", "/srv"], &["list", "/srv"]), [""]);
    assert_eq!(lines(&home, &["-v", "web:/srv/"], &["list", "/srv"]), [ALL]);
    assert_eq!(names(&home, &[]), ["web"]);
    let stat = ["stat", "/srv", "+", "list", "/srv"];
    let said = lines(&home, &["--image-volume", "tmpfs"], &stat);
    assert!(said[0].starts_with("0:0 41777 ") && said[1].is_empty(), "{said:?}");
    let said = lines(&home, &["--image-volume=ignore", "--name", "web"], &stat);
    assert!(said[0].starts_with("1000:1000 42750 ") && said[1] == ALL, "{said:?}");
    run(&home, &["--image-volume", "all"], &[]).refuse(125, &["unknown value", "anonymous"]);
}

#[test]
fn an_image_cannot_have_volumes_anywhere() {
    for target in ["/", "/proc", "/proc/../proc/sys", "/dev", "/sys", ""] {
        let home = home_with(&[], &[target]);
        run(&home, &["--rm"], &["exit", "0"]).refuse(125, &["nothing can be mounted on", "--image-volume ignore"]);
        run(&home, &["--rm", "--image-volume", "ignore"], &["exit", "0"]).succeed();
        assert_eq!(home.entries("volumes"), [""; 0]);
    }
    let home = home_with(&srv(), &["/srv/page"]);
    run(&home, &["--rm"], &["exit", "0"]).refuse(125, &["/srv/page in the image is a file"]);
    assert_eq!(home.entries("volumes"), [""; 0]);
}

#[test]
fn volumes_are_lent() {
    let home = home_with(&srv(), &["/srv"]);
    let shared = home.make_dir("shared");
    let bind = format!("{}:/host:ro", shared.display());
    run(&home, &["--name", "web", "-v", "data:/data", "-v", &bind], &["write", "/srv/x", "web"]).succeed();
    let words = ["read", "/srv/x", "+", "write", "/data/y", "y", "+", "write", "/host/z", "z"];
    let said = run(&home, &["--name", "other", "--volumes-from", "web"], &words).succeed();
    assert_eq!(said, "web\nok\nerror: EROFS\n");
    let template = "{{range .Mounts}}{{.Type}} {{.Destination}} {{.RW}},{{end}}";
    let said = home.kelp(&["inspect", "-f", template, "other"]).succeed();
    assert_eq!(said, "volume /data true,bind /host false,volume /srv true,\n");
    let words = ["read", "/data/y", "+", "write", "/srv/z", "z", "+", "list", "/own"];
    assert_eq!(lines(&home, &["--volumes-from", "web:ro", "-v", "own:/own"], &words), ["y", "error: EROFS", ""]);
    // One's own goes before.
    assert_eq!(lines(&home, &["--volumes-from", "web", "--tmpfs", "/data"], &["list", "/data"]), [""]);
    run(&home, &["--rm", "--volumes-from", "nobody"], &[]).refuse(125, &["nobody"]);
    // Its volume is in use by another: it stays.
    home.kelp(&["rm", "-v", "web"]).succeed();
    home.kelp(&["ps"]).succeed();
    let said = run(&home, &["--rm", "--volumes-from", "other"], &["read", "/srv/x"]).succeed();
    assert_eq!(said, "web\n");
    home.kelp(&["rm", "-v", "other"]).succeed();
    assert_eq!(names(&home, &["-f", "label=com.docker.volume.anonymous"]).len(), 1, "it belongs to nobody alone");
}

#[test]
fn a_container_keeps_its_volumes_from_one_start_to_the_next() {
    let home = home_with(&srv(), &["/srv"]);
    let count = ["list", "/srv", "+", "hard-link", "/srv/page", "/srv/twice"];
    home.kelp(&[&["create", "--name", "web", "-v", "data:/data", "box:1"][..], &count].concat()).succeed();
    // They are there, filled and in use, before it was ever started.
    let own = names(&home, &["-f", "dangling=false"]);
    assert_eq!(own.len(), 2);
    home.kelp(&["volume", "rm", "data"]).refuse(1, &["in use by container web ("]);
    home.kelp(&["create", "--name", "other", "--volumes-from", "web", "box:1", "list", "/srv"]).succeed();
    assert_eq!(home.kelp(&["start", "-a", "web"]).succeed(), format!("{ALL}\nok\n"));
    assert_eq!(home.kelp(&["start", "-a", "web"]).succeed(), format!("{ALL} twice\nerror: EEXIST\n"));
    assert_eq!(names(&home, &[]), own);
    home.kelp(&["rm", "-v", "web"]).succeed();
    // What was lent is not looked up again.
    assert_eq!(home.kelp(&["start", "-a", "other"]).succeed(), format!("{ALL} twice\n"));
    home.kelp(&["rm", "-v", "other"]).succeed();
    assert_eq!(names(&home, &["-f", "dangling=true"]), own);
}

#[test]
fn a_volume_in_use_stays() {
    let home = Home::new();
    let check = || {
        home.kelp(&["volume", "rm", "db"]).refuse(1, &["cannot remove volume \"db\"", "web (", "kelp rm web"]);
        home.kelp(&["volume", "rm", "-f", "db"]).refuse(1, &["in use by container web ("]);
        assert_eq!(home.kelp(&["volume", "prune", "-af"]).succeed(), "Total reclaimed space: 0B\n");
        assert_eq!((names(&home, &["-f", "dangling=true"]).len(), names(&home, &["-f", "dangling=0"]).len()), (0, 1));
    };
    let mut running = home.start(&["--name", "web", "-v", "db:/data"], &["stubborn"]);
    check();
    running.signal(Signal::SIGKILL);
    running.wait();
    assert!(eventually(|| home.containers()[0]["state"] == "exited"));
    check();
    home.kelp(&["rm", "-v", "web"]).succeed();
    assert_eq!(home.kelp(&["volume", "rm", "db", "nope"]).output().stdout, "db\n");
    assert_eq!(home.entries("volumes"), [""; 0]);
}

#[test]
fn the_verbs_speak_as_dockers() {
    let home = Home::new();
    let volume = |words: &[&str]| home.kelp(&[&["volume"], words].concat());
    assert_eq!(volume(&["create", "--label", "tier=db", "--label", "x", "zdb"]).succeed(), "zdb\n");
    assert_eq!(volume(&["create", "-d", "local", "zdb"]).succeed(), "zdb\n");
    let made = volume(&["create"]).succeed();
    assert_eq!(made.trim_end().len(), 64);
    volume(&["create", "-d", "nfs", "x1"]).refuse(125, &["\"nfs\" is not supported"]);
    volume(&["create", "-o", "type=nfs", "x1"]).refuse(125, &["type=nfs"]);
    volume(&["create", "../x"]).fail(125);
    let said = volume(&["ls"]).succeed();
    assert_eq!(said.lines().next(), Some("DRIVER   VOLUME NAME"));
    assert_eq!(said.lines().last(), Some("local    zdb"));
    assert_eq!(
        volume(&["ls", "--format", "{{.Name}} {{.Labels}}", "-f", "name=d", "-f", "label=x"]).succeed(),
        "zdb tier=db,x=\n"
    );
    let all: Value = serde_json::from_str(&volume(&["ls", "--format", "json"]).succeed()).unwrap();
    assert_eq!(
        (&all[0]["anonymous"], &all[1]["name"], &all[1]["labels"]["tier"]),
        (&json!(true), &json!("zdb"), &json!("db"))
    );
    let output = volume(&["inspect", "zdb", "nope"]).output();
    let found: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((output.code, output.stderr.contains("no volume \"nope\"")), (1, true));
    assert_eq!(found[0]["Mountpoint"], home.data().join("volumes/zdb/data").to_str().unwrap());
    assert_eq!(
        (&found[0]["Driver"], &found[0]["Scope"], &found[0]["Options"]),
        (&json!("local"), &json!("local"), &json!({}))
    );
    assert_eq!(
        (volume(&["exists", "zdb"]).code(), volume(&["exists", "nope"]).code(), volume(&["exists", "/"]).code()),
        (0, 1, 1)
    );
    volume(&["rm", "nope"]).refuse(1, &["no volume \"nope\""]);
    assert_eq!(volume(&["rm", "-f", "nope"]).succeed(), "nope\n");
    volume(&["prune"]).refuse(125, &["nobody to ask"]);
    volume(&["prune", "-f", "--filter", "until=1h"]).refuse(125, &["unknown filter"]);
    assert_eq!(volume(&["prune", "-f", "--filter", "label=y"]).succeed(), "Total reclaimed space: 0B\n");
    assert!(volume(&["prune", "-f"]).succeed().starts_with(&format!("Deleted Volumes:\n{made}")));
    assert!(volume(&["prune", "-a", "-f", "--filter", "label!=y"]).succeed().starts_with("Deleted Volumes:\nzdb\n"));
    assert_eq!(names(&home, &[]), [""; 0]);
}

#[test]
fn a_damaged_record_costs_no_more_than_labels() {
    let home = Home::new();
    assert_eq!(home.lines(&["-v", "db:/data"], &["write", "/data/x", "kept"]), ["ok"]);
    std::fs::write(home.data().join("volumes/db/volume.json"), "{").unwrap();
    let output = home.kelp(&["volume", "ls", "-q"]).output();
    assert_eq!(
        (output.stdout.as_str(), output.stderr.contains("volume db is damaged")),
        ("db\n", true),
        "{}",
        output.stderr
    );
    assert_eq!(home.lines(&["-v", "db:/data"], &["read", "/data/x"]), ["kept"]);
    home.kelp(&["volume", "prune", "-f"]).succeed();
    assert_eq!(names(&home, &[]), ["db"]);
    home.kelp(&["volume", "rm", "db"]).succeed();
    assert_eq!(names(&home, &[]), [""; 0]);
}

#[test]
fn an_export_is_imported_with_its_ids() {
    let home = home_with(&srv(), &[]);
    lines(
        &home,
        &["-v", "web:/srv"],
        &["write", "/srv/.wh.page", "x", "+", "set-attribute", "/srv/page", "user.a", "b"],
    );
    let file = home.path("web.tar");
    home.kelp(&["volume", "export", "-o", file.to_str().unwrap(), "web"]).succeed();
    let exported = home.kelp(&["volume", "export", "web"]).output();
    assert_eq!((exported.code, exported.stderr.as_str()), (0, ""));
    assert!(std::fs::read(&file).unwrap() == exported.bytes);
    home.kelp(&["volume", "import", "copy", file.to_str().unwrap()]).refuse(1, &["no volume \"copy\""]);
    home.kelp(&["volume", "create", "--label", "a=b", "copy"]).succeed();
    assert_eq!(home.kelp(&["volume", "import", "copy", "-"]).input(exported.bytes.clone()).succeed(), "");
    assert!(home.kelp(&["volume", "export", "copy"]).output().bytes == exported.bytes);
    let words = ["stat", "/srv", "+", "stat", "/srv/sub/new", "+", "read", "/srv/.wh.page", "+", "read", "/srv/again"];
    let said = lines(&home, &["-v", "copy:/srv"], &words);
    assert!(said[0].starts_with("1000:1000 42750 ") && said[1].starts_with("29:29 100644 "), "{said:?}");
    assert_eq!(said[2..], ["x", "page"]);
    assert!(home.kelp(&["volume", "inspect", "copy"]).succeed().contains("\"a\": \"b\""));
    // Compressed, from a file.
    let mut gzip = flate2::read::GzEncoder::new(exported.bytes.as_slice(), flate2::Compression::fast());
    let mut bytes = Vec::new();
    gzip.read_to_end(&mut bytes).unwrap();
    std::fs::write(home.path("web.tgz"), bytes).unwrap();
    home.kelp(&["volume", "create", "third"]).succeed();
    home.kelp(&["volume", "import", "third", home.path("web.tgz").to_str().unwrap()]).succeed();
    assert!(home.kelp(&["volume", "export", "third"]).output().bytes == exported.bytes);
    // No file is lost to an import.
    home.kelp(&["volume", "import", "copy", file.to_str().unwrap()]).refuse(1, &["it has files already"]);
    home.kelp(&["volume", "create", "fourth"]).succeed();
    let mut running = home.start(&["--name", "user", "-v", "fourth:/data:nocopy"], &["stubborn"]);
    home.kelp(&["volume", "import", "fourth", file.to_str().unwrap()]).refuse(1, &["container user is running"]);
    running.signal(Signal::SIGKILL);
    running.wait();
    assert_eq!(home.entries("staging"), [""; 0]);
}

#[test]
fn an_archive_cannot_leave_its_volume() {
    let home = Home::new();
    let outside = home.make_dir("outside");
    let target = outside.to_str().unwrap();
    let escape = format!("link{target}/x");
    let archives = [
        // Through a link that the archive brings.
        layer(&[Entry::Link("link", target), Entry::File("link/file", 0o644, 0, b"x")]),
        layer(&[Entry::File("a", 0o644, 0, b"x"), Entry::HardLink("b", "../../../volume.json")]),
        layer(&[Entry::File("a", 0o644, 4_000_000_000, b"x")]),
        b"no archive at all, but long enough for a header".repeat(30),
        layer(&[Entry::File("a", 0o644, 0, &[7; 4096])])[..2000].to_vec(),
    ];
    for (number, archive) in archives.into_iter().enumerate() {
        home.kelp(&["volume", "create", "db"]).succeed();
        let output = home.kelp(&["volume", "import", "db", "-"]).input(archive).output();
        assert!(output.code == 1 && output.stderr.contains("cannot import into volume \"db\""), "{number}: {output:?}");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{number}: it left");
        assert_eq!(std::fs::read_dir(home.data().join("volumes/db/data")).unwrap().count(), 0, "{number}");
    }
    assert_eq!(home.entries("staging"), [""; 0]);
    // With the volume as root, this one is about a directory in it.
    home.kelp(&["volume", "create", "inside"]).succeed();
    let archive = layer(&[Entry::Link("link", "/"), Entry::File(&escape, 0o644, 0, b"x")]);
    home.kelp(&["volume", "import", "inside", "-"]).input(archive).succeed();
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "it left");
    assert!(home.data().join(format!("volumes/inside/data{target}/x")).exists());
    // It is as new as before.
    std::fs::write(home.rootfs().join("data/file"), "x").unwrap();
    assert_eq!(home.lines(&["-v", "db:/data"], &["list", "/data"]), ["file"]);
}

#[test]
fn a_thousand_volumes_are_listed() {
    let home = Home::new();
    home.kelp(&["volume", "create", "v0"]).succeed();
    let place = |number: usize| home.data().join(format!("volumes/v{number}"));
    let record = std::fs::read(place(0).join("volume.json")).unwrap();
    for number in 1..1_000 {
        std::fs::create_dir_all(place(number).join("data")).unwrap();
        std::fs::write(place(number).join("volume.json"), &record).unwrap();
    }
    assert_eq!(names(&home, &["-f", "dangling=true"]).len(), 1_000);
    home.kelp(&["volume", "prune", "-af"]).succeed();
    assert_eq!(names(&home, &[]), [""; 0]);
}
