//! `cp` both ways: docker's table of rules, in containers that run, ended or
//! never ran; what becomes of owners, modes and special files; mounts; and
//! containers that want out.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::harness::{Home, Running, eventually, image, is_running};

/// Where in its life a container is when files are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Created,
    Running,
    Exited,
}

const LIVES: [Life; 3] = [Life::Created, Life::Running, Life::Exited];

/// A container called `box` on a root file system with some files.
struct Container {
    home: Home,
    running: Option<Running>,
}

impl Container {
    /// With these options of `run`.
    fn new(life: Life, options: &[&str]) -> Self {
        let home = Home::new();
        let root = home.rootfs();
        fs::create_dir_all(root.join("there/sub")).unwrap();
        fs::write(root.join("there/sub/inner"), "inner").unwrap();
        fs::write(root.join("file"), "file of the container").unwrap();
        symlink("/there", root.join("to-there")).unwrap();
        symlink("file", root.join("to-file")).unwrap();
        symlink("nothing", root.join("dangling")).unwrap();
        fs::create_dir(home.path("here")).unwrap();
        let mut container = Self { home, running: None };
        container.start(life, options, &["echo", "up"]);
        container
    }

    fn start(&mut self, life: Life, options: &[&str], words: &[&str]) {
        let options = [&["--name", "box"], options].concat();
        if life == Life::Running {
            self.running = Some(self.home.start(&options, &[words, &["+", "forever"]].concat()));
            return;
        }
        if life == Life::Exited {
            self.home.run_kept(&options, words).succeed();
            return;
        }
        let rootfs = self.home.rootfs();
        let mut call = self.home.kelp(&["create"]);
        call.args(&options).args(&["--rootfs", rootfs.to_str().unwrap(), "/probe"]).args(words).succeed();
    }

    fn directory(&self) -> PathBuf {
        let ids = self.home.entries("containers");
        assert_eq!(ids.len(), 1);
        self.home.data().join("containers").join(&ids[0])
    }

    /// What the container changed, as it is on disk.
    fn upper(&self, path: &str) -> PathBuf {
        self.directory().join("upper").join(path)
    }

    fn here(&self, path: &str) -> PathBuf {
        self.home.path("here").join(path)
    }

    /// `kelp cp` in the directory `here`.
    fn call(&self, arguments: &[&str]) -> super::harness::Call {
        let mut call = self.home.kelp(&["cp"]);
        call.args(arguments);
        call.command.current_dir(self.home.path("here"));
        call
    }

    #[track_caller]
    fn copy(&self, arguments: &[&str]) {
        self.call(&[&["-q"], arguments].concat()).succeed();
    }

    #[track_caller]
    fn refuse(&self, arguments: &[&str], word: &str) {
        self.call(arguments).refuse(1, &[word]);
    }

    /// A line for each entry of the tar of `path`.
    #[track_caller]
    fn entries(&self, path: &str) -> Vec<String> {
        let output = self.call(&[&format!("box:{path}"), "-"]).output();
        assert_eq!(output.code, 0, "{}", output.stderr);
        list(&output.bytes)
    }

    #[track_caller]
    fn content(&self, path: &str) -> String {
        let output = self.call(&[&format!("box:{path}"), "-"]).output();
        assert_eq!(output.code, 0, "{}", output.stderr);
        let mut archive = tar::Archive::new(output.bytes.as_slice());
        let mut text = String::new();
        archive.entries().unwrap().next().unwrap().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

/// Path, owner, mode and link of all that a tar holds.
fn list(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let describe = |entry: tar::Entry<'_, &[u8]>| {
        let (path, header) = (String::from_utf8_lossy(&entry.path_bytes()).into_owned(), entry.header());
        let link = entry.link_name_bytes().map(|name| format!(" -> {}", String::from_utf8_lossy(&name)));
        let (uid, gid, mode) = (header.uid().unwrap(), header.gid().unwrap(), header.mode().unwrap());
        format!("{path} {uid}:{gid} {mode:o}{}", link.unwrap_or_default())
    };
    archive.entries().unwrap().map(|entry| describe(entry.unwrap())).collect()
}

/// Names and contents of a tree, sorted.
fn tree(directory: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(directory).unwrap().display().to_string();
            let kind = path.symlink_metadata().unwrap().file_type();
            if kind.is_dir() {
                lines.push(format!("{name}/"));
                open.push(path);
            } else if kind.is_symlink() {
                lines.push(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
            } else {
                lines.push(format!("{name}={}", fs::read_to_string(&path).unwrap_or_default()));
            }
        }
    }
    lines.sort();
    lines
}

/// docs.docker.com, "docker container cp": the list of cases.
#[test]
fn into_a_container_by_dockers_rules() {
    for life in LIVES {
        let container = Container::new(life, &[]);
        fs::write(container.here("src"), "new").unwrap();
        fs::create_dir_all(container.here("tree/a")).unwrap();
        fs::write(container.here("tree/a/f"), "f").unwrap();
        // A file.
        container.copy(&["src", "box:/new"]);
        container.copy(&["src", "box:without-slash"]);
        container.copy(&["src", "box:/there"]);
        container.copy(&["src", "box:/there/sub/"]);
        container.copy(&["src", "box:/file"]);
        container.copy(&["src", "box:to-there/through"]);
        container.copy(&["src", "box:to-there/"]);
        container.copy(&["src", "box:dangling"]);
        container.refuse(&["src", "box:/missing/"], "the destination directory must exist");
        container.refuse(&["src", "box:/missing/new"], "no such file or directory");
        container.refuse(&["src", "box:/file/"], "not a directory");
        container.refuse(&["none", "box:/"], "no such file or directory");
        // A directory.
        container.copy(&["tree", "box:/there"]);
        container.copy(&["tree", "box:/made"]);
        container.copy(&["tree/.", "box:/content"]);
        container.copy(&["tree/.", "box:/data"]);
        container.copy(&["./tree/", "box:/data/slashed/"]);
        container.refuse(&["tree", "box:/file"], "cannot be copied to a file");
        container.refuse(&["tree/.", "box:/file"], "cannot be copied to a file");
        container.refuse(&["tree", "box:/missing/new"], "no such file or directory");
        for path in ["new", "without-slash", "there/src", "there/sub/src", "file", "there/through", "nothing"] {
            assert_eq!(fs::read_to_string(container.upper(path)).unwrap(), "new", "{life:?} {path}");
        }
        for path in ["there/tree/a/f", "made/a/f", "content/a/f", "data/a/f", "data/slashed/a/f"] {
            assert_eq!(fs::read_to_string(container.upper(path)).unwrap(), "f", "{life:?} {path}");
        }
        assert!(!container.upper("missing").exists() && container.content("/there/sub/inner") == "inner");
        assert_eq!(container.directory().join("upper").metadata().unwrap().mode() & 0o777, 0o755, "{life:?}");
        let changes = container.home.kelp(&["diff", "box"]).succeed();
        assert!(!changes.contains("kelp-cp") && changes.contains("C /file\n"), "{changes}");
    }
}

#[test]
fn out_of_a_container_by_dockers_rules() {
    for life in LIVES {
        let container = Container::new(life, &[]);
        fs::create_dir_all(container.here("dir/there/sub")).unwrap();
        fs::write(container.here("dir/there/sub/inner"), "old").unwrap();
        fs::write(container.here("old"), "old").unwrap();
        fs::create_dir(container.here("content")).unwrap();
        symlink("old", container.here("link")).unwrap();
        container.copy(&["box:/file", "new"]);
        container.copy(&["box:file", "dir"]);
        container.copy(&["box:/file", "dir/."]);
        container.copy(&["box:/file", "link"]);
        container.refuse(&["box:/file", "missing/"], "the destination directory must exist");
        container.refuse(&["box:/file", "missing/new"], "no such file or directory");
        container.refuse(&["box:/none", "."], "no such file or directory");
        container.refuse(&["box:/file/", "."], "not a directory");
        container.refuse(&["nobody:/file", "."], "no container \"nobody\"");
        container.copy(&["box:/there", "dir"]);
        container.copy(&["box:/there/", "made"]);
        container.copy(&["box:/there/.", "content"]);
        container.copy(&["box:/there/.", "also"]);
        container.refuse(&["box:/there", "old"], "cannot be copied to a file");
        // Links are copied; with -L, or a slash, what they lead to.
        container.copy(&["box:/to-file", "kept-link"]);
        container.copy(&["-L", "box:/to-file", "followed"]);
        container.copy(&["box:/to-there/", "by-slash"]);
        container.copy(&["--follow-link", "box:to-there", "followed-there"]);
        let text = "file of the container";
        let expected = [
            "also/",
            "also/sub/",
            "also/sub/inner=inner",
            "by-slash/",
            "by-slash/sub/",
            "by-slash/sub/inner=inner",
            "content/",
            "content/sub/",
            "content/sub/inner=inner",
            "dir/",
            &format!("dir/file={text}"),
            "dir/there/",
            "dir/there/sub/",
            "dir/there/sub/inner=inner",
            &format!("followed={text}"),
            "followed-there/",
            "followed-there/sub/",
            "followed-there/sub/inner=inner",
            "kept-link -> file",
            "link -> old",
            "made/",
            "made/sub/",
            "made/sub/inner=inner",
            &format!("new={text}"),
            &format!("old={text}"),
        ];
        let mut expected = expected.map(str::to_owned);
        expected.sort();
        assert_eq!(tree(&container.home.path("here")), expected, "{life:?}");
    }
}

#[test]
fn the_command_line_is_dockers() {
    let container = Container::new(Life::Exited, &[]);
    fs::write(container.here("box:file"), "colon").unwrap();
    container.copy(&["./box:file", "box:/colon"]);
    assert_eq!(container.content("/colon"), "colon");
    container.call(&["a", "b"]).refuse(125, &["neither of the two paths is in a container"]);
    container.call(&["-", "-"]).refuse(125, &["neither of the two paths is in a container"]);
    container.call(&["box:/file", "box:/other"]).refuse(125, &["same container"]);
    let output = container.call(&["box:/file", "new"]).output();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", "Successfully copied 21B to new\n"));
    let output = container.home.kelp(&["container", "cp", "-q", "box:/file", "/dev/null/x"]).output();
    assert_eq!((output.code, output.stdout.as_str()), (1, ""));
}

#[test]
fn files_become_those_of_the_destination() {
    let container = Container::new(Life::Running, &[]);
    let own = container.home.path("here").metadata().unwrap();
    let file = container.here("program");
    fs::write(&file, "x").unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o4755)).unwrap();
    // Root's of the container, and then without the right to act as its owner.
    container.copy(&["program", "box:/program"]);
    assert_eq!(container.entries("/program"), ["program 0:0 755"]);
    container.copy(&["--archive", "program", "box:/archived"]);
    assert_eq!(container.entries("/archived"), [format!("archived {}:{} 4755", own.uid(), own.gid())]);
    // And back: the caller's, and no right to act as the caller.
    container.copy(&["box:/archived", "back"]);
    container.copy(&["-a", "box:/archived", "back-archived"]);
    for name in ["back", "back-archived"] {
        let status = container.here(name).metadata().unwrap();
        assert_eq!((status.uid(), status.gid(), status.mode() & 0o7777), (own.uid(), own.gid(), 0o755), "{name}");
        assert_eq!(status.mtime(), file.metadata().unwrap().mtime());
    }
    // A file that cannot be given away is the caller's, and that is said.
    container.copy(&["box:/program", "box-program"]);
    let output = container.call(&["-a", "box:/program", "given"]).output();
    assert!(output.code == 0 && output.stderr.contains("could not be given its owner"), "{}", output.stderr);
}

#[test]
fn special_files_are_copied_or_left_out_and_never_waited_for() {
    let mut container = Container::new(Life::Exited, &[]);
    container.home.kelp(&["rm", "box"]).succeed();
    let words = "mkdir /s + fifo /s/fifo + socket-file /s/socket + fill /s/one 5 + hard-link /s/one /s/two \
        + extend /s/sparse 50000000 + set-attribute /s/one user.mark 6162 + chmod /s/one 640 + symlink /etc /s/link \
        + chmod /s 1777 + echo up";
    container.start(Life::Running, &[], &words.split_whitespace().collect::<Vec<_>>());
    let mut running = container.running.take().unwrap();
    loop {
        match running.line().as_str() {
            "up" => break,
            line => assert_eq!(line, "ok"),
        }
    }
    let output = container.call(&["box:/s", "out"]).output();
    assert!(output.code == 0 && output.stderr.contains("1 socket was left out"), "{}", output.stderr);
    let out = container.here("out");
    let status = |name: &str| out.join(name).symlink_metadata().unwrap();
    assert!(status("fifo").file_type().is_fifo() && status("link").file_type().is_symlink());
    assert_eq!((status("one").ino(), status("one").mode() & 0o7777), (status("two").ino(), 0o640));
    assert_eq!((status("sparse").len(), status("sparse").blocks() < 8_000), (50_000_000, true));
    assert_eq!(out.metadata().unwrap().mode() & 0o7777, 0o1777);
    assert!(!out.join("socket").exists());
    container.refuse(&["box:/s/socket", "."], "socket");
    // Devices are the host's to give.
    let output = container.call(&["box:/dev/null", "."]).output();
    assert!(output.stderr.contains("1 device was left out") && !container.here("null").exists());
    // And in again.
    container.copy(&["out", "box:/again"]);
    let again = container.entries("/again");
    let expected = [
        "again/ 0:0 1777",
        "again/fifo 0:0 644",
        "again/link 0:0 777 -> /etc",
        "again/one 0:0 640",
        "again/sparse 0:0 644",
        "again/two 0:0 640 -> again/one",
    ];
    assert_eq!(again, expected);
    let tar = container.call(&["box:/again/one", "-"]).output().bytes;
    assert!(String::from_utf8_lossy(&tar).contains("SCHILY.xattr.user.mark=ab\n"));
}

#[test]
fn mounts_of_a_running_container_count() {
    let home = Home::new();
    let bind = home.make_dir("bind");
    fs::write(home.path("single"), "before").unwrap();
    let mut container = Container { home, running: None };
    fs::create_dir(container.home.path("here")).unwrap();
    let (bind_option, single) =
        (format!("{}:/bind", bind.display()), format!("{}:/etc/single", container.home.path("single").display()));
    let read_only = format!("{}:/closed:ro", bind.display());
    let options = ["-v", "store:/store", "-v", &bind_option, "-v", &single, "-v", &read_only, "--tmpfs", "/memory"];
    container.start(Life::Running, &options, &["write", "/memory/there", "there"]);
    fs::write(container.here("src"), "new").unwrap();
    for place in ["store", "bind", "memory", "etc/single"] {
        container.copy(&["src", &format!("box:/{place}")]);
        let path = if place == "etc/single" { "/etc/single".to_owned() } else { format!("/{place}/src") };
        assert_eq!(container.content(&path), "new", "{place}");
    }
    // In place: it is a mount point, and stays one.
    assert_eq!(fs::read_to_string(container.home.path("single")).unwrap(), "new");
    assert_eq!(fs::read_to_string(bind.join("src")).unwrap(), "new");
    assert_eq!(fs::read_to_string(container.home.data().join("volumes/store/data/src")).unwrap(), "new");
    assert!(!container.upper("memory/src").exists());
    container.refuse(&["src", "box:/closed"], "read-only");
    let all = container.entries("/");
    for path in ["store/src ", "memory/src ", "memory/there ", "bind/src ", "etc/single "] {
        assert!(all.iter().any(|line| line.starts_with(path)), "{path}: {all:?}");
    }
    // What the kernel makes up is no file of the container's.
    assert!(all.iter().any(|line| line.starts_with("proc/ ")) && !all.iter().any(|line| line.starts_with("proc/1/")));
}

#[test]
fn volumes_of_a_stopped_container_count() {
    let mut container = Container::new(Life::Exited, &["-v", "store:/store", "--read-only"]);
    fs::write(container.here("src"), "new").unwrap();
    container.copy(&["src", "box:/store"]);
    assert_eq!(fs::read_to_string(container.home.data().join("volumes/store/data/src")).unwrap(), "new");
    assert_eq!(container.content("/store/src"), "new");
    container.refuse(&["src", "box:/"], "read-only");
    container.home.kelp(&["rm", "box"]).succeed();
    let gone = container.home.make_dir("gone");
    container.start(Life::Exited, &["-v", &format!("{}:/gone", gone.display())], &["write", "/gone/x", "x"]);
    fs::remove_dir_all(&gone).unwrap();
    let output = container.call(&["box:/file", "."]).output();
    assert!(output.code == 0 && output.stderr.contains("what is mounted on /gone is gone"), "{}", output.stderr);
}

#[test]
fn ids_are_those_of_the_container_whatever_they_are_outside() {
    for life in [Life::Running, Life::Exited] {
        let container = Container::new(life, &["--userns", "keep-id"]);
        fs::write(container.here("src"), "new").unwrap();
        let own = container.here("src").metadata().unwrap().uid();
        container.copy(&["src", "box:/data/root"]);
        container.copy(&["-a", "src", "box:/data/own"]);
        let found = container.entries("/data/.");
        assert!(found.contains(&"root 0:0 644".to_owned()), "{found:?}");
        assert!(found.iter().any(|line| line.starts_with(&format!("own {own}:"))), "{found:?}");
        container.copy(&["box:/data/root", "back"]);
        assert_eq!(container.here("back").metadata().unwrap().uid(), own);
    }
}

#[test]
fn the_hosts_own_root_as_a_container() {
    for life in [Life::Running, Life::Exited] {
        let home = Home::new();
        fs::create_dir(home.path("here")).unwrap();
        let program = super::harness::probe_binary();
        let mut container = Container { home, running: None };
        let mut call = container.home.kelp(&["run", "--name", "box", "--rootfs", "/", program.to_str().unwrap()]);
        call.args(&["write", "/etc/kelp-test", "inside"]);
        match life {
            Life::Running => {
                let mut running = call.args(&["+", "forever"]).start();
                assert_eq!(running.line(), "ok");
                assert!(eventually(|| container.home.containers().iter().any(|one| one["state"] == "running")));
                container.running = Some(running);
            }
            _ => assert_eq!(call.succeed(), "ok\n"),
        }
        assert_eq!(container.content("/etc/kelp-test"), "inside");
        fs::write(container.here("src"), "new").unwrap();
        container.copy(&["src", "box:/etc/kelp-test-two"]);
        assert_eq!(container.content("/etc/kelp-test-two"), "new");
        assert!(!Path::new("/etc/kelp-test").exists() && !Path::new("/etc/kelp-test-two").exists());
        container.copy(&["box:/etc/passwd", "passwd"]);
        assert_eq!(fs::read(container.here("passwd")).unwrap(), fs::read("/etc/passwd").unwrap());
    }
}

fn archive(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    build(&mut builder);
    builder.into_inner().unwrap()
}

fn add(builder: &mut tar::Builder<Vec<u8>>, path: &str, owner: u64, content: &str) {
    let mut header = tar::Header::new_ustar();
    // Not by the crate's own rules: some of these paths are not nice.
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_mode(0o4755);
    header.set_uid(owner);
    header.set_gid(owner);
    header.set_size(content.len() as u64);
    header.set_mtime(1_600_000_000);
    header.set_cksum();
    builder.append(&header, content.as_bytes()).unwrap();
}

#[test]
fn a_tar_goes_in_and_out() {
    for life in LIVES {
        let container = Container::new(life, &[]);
        let tar = archive(|builder| {
            add(builder, "deep/dir/file", 1000, "tar");
            // As the container sees it: to-there is its own link.
            add(builder, "to-there/linked", 0, "linked");
        });
        container.call(&["-", "box:/"]).input(tar.clone()).succeed();
        assert_eq!(container.entries("/deep/dir/file"), ["file 1000:1000 4755"]);
        assert_eq!(container.content("/there/linked"), "linked");
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&tar).unwrap();
        container.call(&["-", "box:/data"]).input(encoder.finish().unwrap()).succeed();
        assert_eq!(container.content("/data/deep/dir/file"), "tar");
        container.call(&["-", "box:/file"]).input(tar.clone()).refuse(1, &["the destination must be a directory"]);
        container.call(&["-", "box:/none"]).input(tar.clone()).refuse(1, &["the destination must be a directory"]);
        container.call(&["-", "box:/"]).input("no tar").refuse(1, &["archive is cut short"]);
        container.call(&["-", "box:/"]).input(tar[..700].to_vec()).refuse(1, &["archive is cut short"]);
        for path in ["../out", "/../out", "a/../../out"] {
            let tar = archive(|builder| add(builder, path, 0, "out"));
            container.call(&["-", "box:/data"]).input(tar).refuse(1, &["leaves"]);
        }
        let found = container.entries("/there");
        assert_eq!(found, ["there/ 0:0 755", "there/linked 0:0 4755", "there/sub/ 0:0 755", "there/sub/inner 0:0 644"]);
        assert_eq!(container.entries("/there/sub/."), ["inner 0:0 644"]);
    }
}

#[test]
fn a_tar_is_not_for_a_terminal_and_its_reader_may_go() {
    let container = Container::new(Life::Exited, &[]);
    let mut call = container.home.kelp(&["cp", "box:/probe", "-"]);
    let mut terminal = super::harness::pseudo_terminal::Terminal::start(&mut call, 80, 24);
    terminal.expect("kelp cp CONTAINER:PATH - > FILE");
    assert_eq!(terminal.running.wait().code, 125);
    let mut child = container.call(&["box:/probe", "-"]).command.stdin(Stdio::null()).spawn().unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0; 512]).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(141));
}

#[test]
fn files_of_the_kernel_are_read_with_a_bound_and_never_written() {
    let container = Container::new(Life::Running, &[]);
    fs::write(container.here("src"), "x").unwrap();
    assert!(container.content("/proc/version").starts_with("Linux version"));
    assert!(container.content("/proc/1/cmdline").contains("forever"));
    assert!(container.content("/sys/kernel/mm/transparent_hugepage/enabled").len() < 100);
    container.copy(&["box:/proc/1/..", "proc"]);
    assert!(container.here("proc/uptime").metadata().unwrap().len() > 0);
    for place in ["/proc", "/proc/sys/kernel/", "/proc/1/", "/sys/kernel", "/proc/version"] {
        container.refuse(&["src", &format!("box:{place}")], "kernel's own file system");
    }
}

#[test]
fn one_container_gives_to_another() {
    let container = Container::new(Life::Running, &[]);
    container.home.run_kept(&["--name", "other"], &["remove", "/data"]).succeed();
    container.copy(&["box:/there", "other:/data"]);
    container.copy(&["box:/file", "other:/data/"]);
    container.copy(&["other:/data", "."]);
    let text = "file of the container";
    assert_eq!(
        tree(&container.home.path("here")),
        ["data/", &format!("data/file={text}"), "data/sub/", "data/sub/inner=inner"]
    );
    container.refuse(&["box:/there", "other:/data/file"], "cannot be copied to a file");
    container.refuse(&["box:/none", "other:/"], "no such file or directory");
}

#[test]
fn kinds_are_not_exchanged_and_links_here_are_not_followed() {
    let container = Container::new(Life::Exited, &[]);
    let canary = container.home.make_dir("canary");
    // What is here already.
    fs::create_dir_all(container.here("out/there/sub/inner")).unwrap();
    container.refuse(&["box:/there", "out"], "cannot take the place");
    fs::remove_dir_all(container.here("out/there")).unwrap();
    symlink(&canary, container.here("out/there")).unwrap();
    container.refuse(&["box:/there", "out"], "cannot take the place");
    fs::remove_file(container.here("out/there")).unwrap();
    symlink(canary.join("file"), container.here("out/file")).unwrap();
    container.copy(&["box:/file", "out"]);
    assert!(container.here("out/file").symlink_metadata().unwrap().is_file());
    // The same in the container.
    fs::create_dir_all(container.here("there/sub/inner")).unwrap();
    container.refuse(&["there", "box:/"], "cannot take the place");
    fs::create_dir(container.here("to-there")).unwrap();
    fs::write(container.here("to-there/x"), "x").unwrap();
    container.refuse(&["to-there", "box:/"], "cannot take the place");
    assert_eq!(tree(&canary), [""; 0]);
    assert_eq!(container.entries("/there"), ["there/ 0:0 755", "there/sub/ 0:0 755", "there/sub/inner 0:0 644"]);
}

/// CVE-2018-15664, CVE-2019-10152: a container that exchanges a directory with
/// a link while files are copied.
#[test]
fn a_race_leads_nowhere() {
    const ROUNDS: usize = 30;
    let home = Home::new();
    let canary = home.make_dir("canary");
    fs::write(canary.join("secret"), "SECRET").unwrap();
    let up = "../".repeat(20);
    let outside = format!("{up}{}", canary.strip_prefix("/").unwrap().display());
    let root = home.rootfs();
    fs::create_dir_all(root.join("data/dir/deep")).unwrap();
    fs::write(root.join("data/dir/secret"), "public").unwrap();
    fs::write(root.join("data/dir/deep/secret"), "public").unwrap();
    symlink(&outside, root.join("data/link")).unwrap();
    fs::create_dir_all(home.path("here/tree/deep")).unwrap();
    fs::write(home.path("here/tree/deep/new"), "new").unwrap();
    fs::write(home.path("here/tree/secret"), "overwritten").unwrap();
    let mut container = Container { home, running: None };
    container.start(Life::Running, &[], &["echo", "up", "+", "exchange", "/data/dir", "/data/link"]);
    for round in 0..ROUNDS {
        let out = format!("out-{round}");
        // Each may fail, since what was there a moment ago is not; none may lead out.
        container.call(&["-q", "tree/.", "box:/data/dir"]).output();
        container.call(&["-q", "tree", "box:/data/dir/deep"]).output();
        container.call(&["-q", "box:/data/dir", &out]).output();
        container.call(&["-q", "-L", "box:/data/dir/secret", &format!("{out}-file")]).output();
        container.call(&["-q", "box:/data", &format!("{out}-data")]).output();
        let tar = archive(|builder| {
            add(builder, "deep/secret", 0, "overwritten");
            add(builder, "secret", 0, "overwritten");
        });
        container.call(&["-", "box:/data/dir"]).input(tar).output();
    }
    assert_eq!(tree(&canary), ["secret=SECRET"]);
    let here = tree(&container.home.path("here"));
    assert!(here.iter().all(|line| !line.contains("SECRET")), "{here:?}");
    assert!(here.iter().any(|line| line.contains("/secret=")), "nothing was copied at all: {here:?}");
}

/// CVE-2019-14271, CVE-2026-41567: libraries and programs of the image that a
/// copy would load or call. Whoever opens one of these waits for ever.
#[test]
fn nothing_of_the_image_is_loaded_or_executed() {
    let container = Container::new(Life::Exited, &[]);
    container.home.kelp(&["rm", "box"]).succeed();
    let root = container.home.rootfs();
    for path in [
        "etc/nsswitch.conf",
        "etc/ld.so.cache",
        "etc/ld.so.preload",
        "lib/x86_64-linux-gnu/libnss_files.so.2",
        "lib/x86_64-linux-gnu/libc.so.6",
        "lib64/ld-linux-x86-64.so.2",
        "usr/lib/gconv/gconv-modules",
        "usr/bin/unpigz",
        "usr/bin/gzip",
        "usr/bin/xz",
        "usr/bin/tar",
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o777)).unwrap();
    }
    let mut container = container;
    for life in [Life::Running, Life::Exited] {
        container.start(life, &[], &["echo", "up"]);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&archive(|builder| add(builder, "packed", 0, "packed"))).unwrap();
        container.call(&["-", "box:/data"]).input(encoder.finish().unwrap()).succeed();
        container.copy(&["box:/data/packed", "."]);
        container.copy(&["packed", "box:/"]);
        container.copy(&["-a", "box:/usr", &format!("usr-{life:?}")]);
        drop(container.running.take());
        assert!(eventually(|| container.home.containers().iter().all(|one| one["state"] != "running")));
        container.home.kelp(&["rm", "box"]).succeed();
    }
}

/// The stage that copies and its worker.
fn stages(home: &Home) -> Vec<i32> {
    // One that has ended may still wait to be reaped.
    let name = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    home.holders().into_iter().filter(|pid| name(pid).starts_with("kelp-copy") && is_running(*pid)).collect()
}

#[test]
fn whoever_copies_may_be_killed() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    for life in [Life::Running, Life::Exited] {
        let container = Container::new(life, &[]);
        fs::write(container.here("large"), vec![b'x'; 4_000_000]).unwrap();
        container.copy(&["large", "box:/data/large"]);
        let large = archive(|builder| add(builder, "large", 0, &"y".repeat(4_000_000)));
        for (victim, way) in [("stage", "out"), ("command", "out"), ("stage", "in"), ("command", "in")] {
            let words = if way == "out" { ["box:/data/large", "-"] } else { ["-", "box:/data"] };
            let mut child = container.call(&words).command.spawn().unwrap();
            // Under way, and waiting for us.
            let (mut stdout, mut stdin) = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
            if way == "out" {
                stdout.read_exact(&mut [0; 512]).unwrap();
            } else {
                stdin.write_all(&large[..2_000_000]).unwrap();
            }
            assert!(eventually(|| !stages(&container.home).is_empty()));
            let stage = stages(&container.home)[0];
            let pid = if victim == "stage" { stage } else { i32::try_from(child.id()).unwrap() };
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
            // Before the pipe moves on: what is left of the copy could be done faster than a process dies.
            assert!(eventually(|| !is_running(pid)));
            drop(stdin);
            stdout.read_to_end(&mut Vec::new()).unwrap();
            let status = child.wait().unwrap();
            if victim == "stage" {
                assert_eq!(status.code(), Some(1), "{life:?} {way}");
            }
            assert!(eventually(|| !is_running(stage)), "{life:?} {victim} {way}");
            // The old file is whole, and the next copy is not kept waiting.
            container.copy(&["box:/data/large", "back"]);
            assert!(fs::read(container.here("back")).unwrap() == fs::read(container.here("large")).unwrap());
        }
        assert_eq!(container.home.entries("staging"), [""; 0]);
    }
}

#[test]
fn a_copy_from_a_removed_container_is_none() {
    let container = Container::new(Life::Running, &[]);
    fs::write(container.here("large"), vec![b'x'; 4_000_000]).unwrap();
    container.copy(&["large", "box:/data/large"]);
    let mut child = container.call(&["box:/data", "-"]).command.stdin(Stdio::null()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 512]).unwrap();
    container.home.kelp(&["rm", "-f", "box"]).succeed();
    stdout.read_to_end(&mut Vec::new()).unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{said}");
    assert!(said.contains("removed meanwhile"), "{said}");
}

/// The layers of an image below, deletions among the changes.
#[test]
fn what_is_copied_into_a_stopped_container_is_there_when_it_starts() {
    let home = Home::new();
    fs::create_dir(home.path("here")).unwrap();
    let layout = home.make_dir("layout");
    let second = image::layer(&[
        image::Entry::Directory("srv", 0o755, 0),
        image::Entry::File("srv/old", 0o640, 1000, b"old"),
        image::Entry::File("srv/same", 0o644, 0, b"same"),
    ]);
    let config = serde_json::json!({"Entrypoint": ["/probe"]});
    image::write_layout(&layout, "box:1", &[image::base_layer(), second], &config);
    home.kelp(&["load", "-q", "-i", layout.to_str().unwrap()]).succeed();
    let words = ["read", "/srv/new", "+", "stat", "/srv/new", "+", "remove", "/srv/old", "+", "list", "/srv"];
    home.kelp(&["create", "--name", "box", "box:1"]).args(&words).succeed();
    let container = Container { home, running: None };
    fs::write(container.here("new"), "first").unwrap();
    container.copy(&["new", "box:/srv"]);
    assert_eq!(container.entries("/srv/old"), ["old 1000:1000 640"]);
    let said = container.home.kelp(&["start", "-a", "box"]).succeed();
    assert!(said.ends_with("first\n0:0 100644 5 bytes\nok\nnew same\n"), "{said}");
    // Again, over what it has changed itself.
    assert_eq!(container.entries("/srv/."), ["new 0:0 644", "same 0:0 644"]);
    fs::write(container.here("new"), "second").unwrap();
    container.copy(&["new", "box:/srv"]);
    container.copy(&["new", "box:/srv/old"]);
    let said = container.home.kelp(&["start", "-a", "box"]).succeed();
    assert!(said.ends_with("second\n0:0 100644 6 bytes\nok\nnew same\n"), "{said}");
}

#[test]
fn two_copies_of_a_stopped_container_wait_for_each_other() {
    let container = Container::new(Life::Exited, &[]);
    let mut first = container.call(&["box:/probe", "-"]).command.stdin(Stdio::null()).spawn().unwrap();
    let mut stdout = first.stdout.take().unwrap();
    // It stands, with the lock in its hands, until it is read.
    stdout.read_exact(&mut [0; 512]).unwrap();
    let mut second = container.call(&["-q", "box:/file", "copied"]).start();
    assert!(eventually(|| stages(&container.home).len() == 1));
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(!container.here("copied").exists());
    stdout.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!((first.wait().unwrap().code(), second.wait().code), (Some(0), 0));
    assert!(container.here("copied").exists());
}
