//! Units of systemd: what they say is what runs.

use std::fs;

use crate::harness::needs::{needs, works};
use crate::harness::{Home, eventually, kelp_binary};

/// The commands of a unit, as systemd reads them (systemd.service(5)).
fn commands(unit: &str, key: &str) -> Vec<String> {
    let line = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap();
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            '\\' => match characters.next().unwrap() {
                'n' => word.push('\n'),
                other => word.push(other),
            },
            other => word.push(other),
        }
    }
    words.push(word);
    words.iter().map(|word| word.replace("%%", "%").replace("$$", "$")).collect()
}

#[test]
fn a_unit_runs_the_container_that_it_was_made_of() {
    let home = Home::new();
    let rootfs = home.rootfs();
    let rootfs = rootfs.to_str().unwrap();
    home.kelp(&["create", "--name", "web", "--stop-timeout=5", "--rootfs", rootfs, "/probe", "exit", "3"]).succeed();
    let unit = home.kelp(&["generate", "systemd", "--name", "web"]).succeed();
    let words = commands(&unit, "ExecStart");
    let (kelp, words) = words.split_first().unwrap();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    assert_eq!(words, ["start", "--attach", "web"]);
    assert_eq!(home.call(kelp.as_ref(), &words).code(), 3);
    assert!(unit.contains("\nTimeoutStopSec=65\n"), "{unit}");
    assert!(unit.contains(&format!("\nEnvironment=\"KELP_DATA={}\"\n", home.data().display())), "{unit}");
    let words = commands(&unit, "ExecStop");
    let words: Vec<&str> = words[1..].iter().map(String::as_str).collect();
    home.kelp(&words).succeed();
}

#[test]
fn a_unit_makes_the_container_anew() {
    let home = Home::new();
    let rootfs = home.rootfs();
    let rootfs = rootfs.to_str().unwrap();
    let odd = "A=$HOME 100% \"x\"\\\ny";
    home.kelp(&["create", "--name", "job", "-e", odd, "--rootfs", rootfs, "/probe", "inside"]).succeed();
    let directory = home.make_dir("units");
    let mut call = home.call("/bin/sh".as_ref(), &["-c", "cd \"$1\" && shift && exec \"$@\"", "-"]);
    call.args(&[directory.to_str().unwrap()]).args(&[kelp_binary().to_str().unwrap()]);
    let path = call.args(&["generate", "systemd", "--new", "--name", "--files", "job"]).succeed();
    let unit = fs::read_to_string(path.trim_end()).unwrap();
    assert!(path.ends_with("/units/container-job.service\n"), "{path}");
    for key in ["ExecStartPre", "ExecStart", "ExecStart", "ExecStartPre"] {
        let words = commands(&unit, key);
        let words: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        // The old one must be out of the way of a second run, too.
        let said = home.kelp(&words).succeed();
        assert!(key != "ExecStart" || said.contains("$HOME 100%"), "{said}");
    }
    assert!(eventually(|| home.containers().is_empty()));
}

#[test]
fn systemd_takes_the_units() {
    let analyze = "systemd-analyze";
    needs!(works(analyze, &["--version"]), "there is no systemd-analyze");
    let home = Home::new();
    let rootfs = home.rootfs();
    let rootfs = rootfs.to_str().unwrap();
    home.kelp(&["create", "--name", "odd", "-e", "A=$x;%n \\ '", "--rootfs", rootfs, "/probe", ";", "\n"]).succeed();
    let directory = home.make_dir("units");
    for (file, options) in [("kept.service", &[][..]), ("new.service", &["--new", "--time=-1"][..])] {
        let unit = home.kelp(&["generate", "systemd"]).args(options).args(&["odd"]).succeed();
        let path = directory.join(file);
        fs::write(&path, unit).unwrap();
        let mut verify = home.call(analyze.as_ref(), &["verify", "--user", "--man=no", path.to_str().unwrap()]);
        let output = verify.env("XDG_RUNTIME_DIR", home.path("home")).output();
        assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{file}");
    }
}
